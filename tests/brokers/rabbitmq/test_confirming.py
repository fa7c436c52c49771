"""A channel in confirm mode, without a broker: tags, answers in any order, returns, what goes back to the outbox."""

from types import SimpleNamespace
from typing import Any

import pytest

from micro_framework.brokers.port import Publication
from micro_framework.brokers.rabbitmq import confirming
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.confirming import GATHERED, ConfirmingChannel
from micro_framework.brokers.rabbitmq.frames import pack_properties
from micro_framework.exceptions import PublishError, PublishRejected, Unroutable
from micro_framework.wire.messages import Properties


class OpenChannel(ConfirmingChannel):
    """Open on a channel that only keeps the hooks."""

    def __init__(self) -> None:
        self.rejections = 0
        super().__init__(1, lambda channel, error: None, self.note_rejection)
        self.reopen()

    def note_rejection(self, channel: ConfirmingChannel) -> None:
        self.rejections += 1

    def reopen(self) -> None:
        self.hooks: Any = SimpleNamespace(confirm_select=lambda: None)
        self.open(SimpleNamespace(channel=lambda number: self.hooks))  # type: ignore[arg-type]

    def put(
        self, name: str, *, confirm: bool = True, mandatory: bool = False, tries: int = 0, **properties: Any
    ) -> PendingPublish:
        publication = Publication("e", "k", name.encode(), Properties(**properties), mandatory)
        pending = PendingPublish(publication, lambda size: publication.body, confirm, lambda: "state", more_tries=tries)
        self.append(pending)
        return pending

    def return_of(self, pending: PendingPublish, properties: Properties | None = None) -> None:
        packed = pack_properties(properties or pending.publication.properties)
        method = b"\x00\x3c\x00\x32\x01\x38\x08NO_ROUTE\x01e\x01k"
        self.hooks.on_return(method, bytes(12) + packed, pending.publication.body)


def outcomes(*pendings: PendingPublish) -> list[object]:
    """Each one's error type, None for a confirm, "open" without an outcome."""
    found: list[object] = []
    for pending in pendings:
        told: list[BaseException | None] = []
        pending.add_done_callback(told.append)
        found.append("open" if not told else told[0] and type(told[0]))
    return found


@pytest.fixture
def channel() -> OpenChannel:
    return OpenChannel()


def test_everything_goes_out_in_one_piece_and_in_order(channel: OpenChannel) -> None:
    for name in "abc":
        channel.put(name)
    assert channel.take(4096) == b"abc"
    assert not channel.has_output


def test_confirms_come_singly_in_any_order_and_many_at_once(channel: OpenChannel) -> None:
    a, b, c, d = (channel.put(name) for name in "abcd")
    channel.take(4096)
    channel.hooks.on_confirm(3, False, True)
    assert outcomes(a, b, c, d) == ["open", "open", None, "open"]
    channel.hooks.on_confirm(2, True, True)
    channel.hooks.on_confirm(4, False, False)
    assert outcomes(a, b, c, d) == [None, None, None, PublishRejected]
    channel.hooks.on_confirm(4, True, True)
    channel.hooks.on_confirm(99, False, True)


def test_messages_gather_while_few_wait_and_an_answer_is_to_come(channel: OpenChannel) -> None:
    channel.put("a")
    assert not channel.gathers, "the answer to what is written brings the thread that writes the rest"
    channel.take(4096)
    channel.put("b")
    assert channel.gathers
    for _ in range(GATHERED):
        channel.put("c")
    assert not channel.gathers
    channel.take(4096)
    channel.put("d")
    channel.hooks.on_confirm(GATHERED + 2, True, True)
    assert not channel.gathers


def test_what_asks_for_no_confirm_takes_a_tag_and_is_done_once_written(channel: OpenChannel) -> None:
    light, other = channel.put("a", confirm=False), channel.put("b")
    channel.take(4096)
    assert outcomes(light) == ["open"]
    channel.finish_without_confirm()
    assert outcomes(light, other) == [None, "open"]
    channel.hooks.on_confirm(2, False, True)
    assert outcomes(other) == [None]


def test_a_return_wins_over_the_confirm_that_follows(channel: OpenChannel) -> None:
    a, b = channel.put("a", mandatory=True), channel.put("b", mandatory=True)
    channel.take(4096)
    channel.return_of(b)
    channel.hooks.on_confirm(2, True, True)
    assert outcomes(a, b) == [None, Unroutable]


def test_of_equal_messages_the_first_that_did_not_come_back_yet(channel: OpenChannel) -> None:
    same = [channel.put("a", mandatory=True) for _ in range(3)]
    channel.take(4096)
    channel.return_of(same[0])
    channel.return_of(same[0])
    channel.hooks.on_confirm(3, True, True)
    assert outcomes(*same) == [Unroutable, Unroutable, None]


def test_the_properties_decide_between_equal_bodies(channel: OpenChannel) -> None:
    one, two = (channel.put("a", mandatory=True, correlation_id=name) for name in ("one", "two"))
    channel.take(4096)
    channel.return_of(two)
    assert outcomes(one, two) == ["open", Unroutable]


def test_properties_the_broker_changed_do_not_hide_the_message(channel: OpenChannel) -> None:
    pending = channel.put("a", mandatory=True, headers={"BCC": ["x"]})
    channel.take(4096)
    channel.return_of(pending, Properties())
    assert outcomes(pending) == [Unroutable]


def test_messages_that_are_not_mandatory_never_come_back(channel: OpenChannel) -> None:
    plain, mandatory = channel.put("a"), channel.put("a", mandatory=True)
    channel.take(4096)
    channel.return_of(mandatory)
    assert outcomes(plain, mandatory) == ["open", Unroutable]


def test_what_has_no_answer_goes_back_to_the_head_in_order_and_counts_anew(channel: OpenChannel) -> None:
    a, b, c = (channel.put(name) for name in "abc")
    channel.take(4096)
    d = channel.put("d")
    channel.hooks.on_confirm(2, False, True)
    channel.take_back()
    assert not channel.has_output
    assert channel.take(4096) == b""
    channel.reopen()
    assert channel.take(4096) == b"acd"
    channel.hooks.on_confirm(2, True, True)
    assert outcomes(a, b, c, d) == [None, None, None, "open"]


def test_whoever_gave_up_is_not_written(channel: OpenChannel) -> None:
    a, _ = channel.put("a"), channel.put("b")
    a.give_up("late")
    assert channel.take(4096) == b"b"


def test_what_no_longer_fits_a_frame_fails_alone(channel: OpenChannel) -> None:
    def pack(size: int) -> bytes:
        if size < 1000:
            raise PublishError("too large")
        return b"x"

    large = PendingPublish(Publication("e", "k", b"", Properties()), pack, True, lambda: "state")
    large.frames(4096)
    channel.append(large)
    channel.put("b")
    assert channel.take(999) == b"b"
    assert outcomes(large) == [PublishError]


def test_there_is_an_end_to_what_waits(channel: OpenChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "MOST_WAITING", 2)
    for name in "ab":
        channel.put(name)
    with pytest.raises(PublishError, match="2 messages wait"):
        channel.put("c")


def test_a_large_outbox_goes_out_in_several_pieces(channel: OpenChannel) -> None:
    for _ in range(10):
        channel.put("x" * 100_000)
    sizes = []
    while piece := channel.take(4096):
        sizes.append(len(piece))
    assert sizes == [300_000, 300_000, 300_000, 100_000]


def test_the_end_tells_everybody(channel: OpenChannel) -> None:
    written = channel.put("a")
    channel.take(4096)
    unwritten = channel.put("b")
    channel.fail_all(lambda: PublishError("stopped"))
    for pending, words in ((written, "may have been delivered"), (unwritten, "stopped")):
        with pytest.raises(PublishError, match=words):
            pending.wait(0)
    assert channel.pending() == []


def test_the_end_tells_those_who_come_meanwhile(channel: OpenChannel) -> None:
    channel.put("first")
    late: list[PendingPublish] = []

    def closed() -> PublishError:
        if not late:
            late.append(channel.put("late"))
        return PublishError("it was stopped")

    channel.fail_all(closed)
    assert outcomes(*late) == [PublishError]


def test_what_may_be_refused_is_sent_again_until_its_tries_are_over(channel: OpenChannel) -> None:
    patient, other = channel.put("patient", tries=2), channel.put("other")
    channel.take(4096)
    channel.hooks.on_confirm(2, True, False)
    assert outcomes(patient, other) == ["open", PublishRejected]
    assert (channel.rejections, channel.has_output, channel.pending()) == (1, False, [patient])
    for tag in (3, 4):
        channel.send_rejected()
        assert channel.take(4096) == b"patient"
        channel.hooks.on_confirm(tag, False, False)
    assert outcomes(patient) == [PublishRejected]
    assert channel.rejections == 2


def test_what_was_refused_and_may_be_sent_again_goes_out_on_the_next_channel(channel: OpenChannel) -> None:
    patient, later = channel.put("patient", tries=1), channel.put("later")
    channel.take(4096)
    channel.hooks.on_confirm(1, False, False)
    channel.take_back()
    channel.reopen()
    assert channel.take(4096) == b"laterpatient"
    channel.hooks.on_confirm(2, True, True)
    assert outcomes(patient, later) == [None, None]


def test_what_was_refused_and_waits_is_finished_with_the_rest(channel: OpenChannel) -> None:
    patient = channel.put("patient", tries=1)
    channel.take(4096)
    channel.hooks.on_confirm(1, False, False)
    channel.take_back()
    channel.fail_all(lambda: PublishError("closed"))
    assert outcomes(patient) != ["open"]


def test_who_has_given_up_is_not_sent_again(channel: OpenChannel) -> None:
    patient = channel.put("patient", tries=1)
    channel.take(4096)
    patient.give_up("tired")
    channel.hooks.on_confirm(1, False, False)
    assert (channel.rejections, channel.pending()) == (0, [])
