"""Where the command looks: which broker, and which queues."""

import textwrap

import pytest

from micro_framework.cli.dead_letters.places import Place, find_places, parked_name, unique
from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.exceptions import ConfigError, DeclarationError

ORDERS = """
    from kombu import Queue
    from micro_framework.amqp.entrypoints import EventListener, QueueListener
    from micro_framework.entrypoints import TimeEntrypoint
    from micro_framework.runner import Runner

    class Orders:
        name = "orders"

        @EventListener("payments", "refunded")
        def refund(self, payload): ...

        @QueueListener(Queue("legacy"))
        def legacy(self, payload): ...

        @TimeEntrypoint(60)
        def tick(self): ...

    class Mail:
        name = "mail"

        @EventListener("payments", "refunded", "broadcast")
        def hear(self, payload): ...

        @EventListener("payments", "refunded", "broadcast", reliable_delivery=True, broadcast_identifier="a")
        def hear_reliably(self, payload): ...
"""

READY = """
    from micro_framework.runner import Runner
    import shop
    runner = Runner([shop.Orders], {"AMQP_URI": "memory://ready"})
"""

REFUND = "evt-payments-refunded--orders.refund.parked"


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """A directory with two modules and a config; the environment names no broker."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(ORDERS))
    (tmp_path / "ready.py").write_text(textwrap.dedent(READY))
    (tmp_path / "broken.py").write_text("raise ValueError('broken')\n")
    (tmp_path / "config.yaml").write_text("AMQP_URI: memory://configured\nPUBLISH_TIMEOUT: 3\n")
    (tmp_path / "wrong.yaml").write_text("MAX_WORKERS: many\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("AMQP_URI", raising=False)
    for name in ("shop", "ready", "broken"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    return tmp_path


def queues_of(found):
    return [place.queue for place in found.places]


def test_the_queues_of_services_are_worked_out():
    found = find_places(["shop:Orders"], [], "config.yaml", None)
    assert queues_of(found) == [REFUND, "legacy.parked"]
    assert (found.settings.amqp_uri, found.settings.publish_timeout) == ("memory://configured", 3)
    assert all(place.named is None for place in found.places)


def test_a_queue_whose_name_is_made_up_at_each_start_cannot_be_worked_out(capsys):
    found = find_places(["shop:Mail"], [], "config.yaml", None)
    assert queues_of(found) == ["evt-payments-refunded--mail.hear_reliably-a.parked"]
    assert "Mail.hear: not looked into: its queue has another name at each start" in capsys.readouterr().err


def test_queues_are_named_by_themselves_or_by_the_ones_beside_them():
    found = find_places([], ["jobs", "other.parked"], "config.yaml", None)
    assert found.places == (Place("jobs.parked", "jobs"), Place("other.parked", "other.parked"))


def test_named_queues_come_first_and_each_once():
    found = find_places(["shop:Orders"], ["legacy", "legacy.parked"], "config.yaml", None)
    assert queues_of(found) == ["legacy.parked", REFUND]
    assert found.places[0].named == "legacy"
    assert unique([]) == ()


def test_a_long_name_finds_its_queue():
    assert len(parked_name("q" * 255)) == 255


def test_a_runner_that_is_ready_made_has_its_own_configuration():
    found = find_places(["ready"], [], None, None)
    assert (queues_of(found), found.settings.amqp_uri) == ([REFUND, "legacy.parked"], "memory://ready")
    with pytest.raises(WrongUsageError, match="leave out --config"):
        find_places(["ready"], [], "config.yaml", None)


@pytest.mark.parametrize("specs", [["shop:Orders"], ["ready"], []])
def test_the_broker_can_be_named(specs):
    config = None if specs == ["ready"] else "config.yaml"
    assert find_places(specs, ["jobs"], config, "memory://named").settings.amqp_uri == "memory://named"


@pytest.mark.parametrize("specs", [["shop:Orders"], []])
def test_a_key_that_is_set_wins_over_the_file(specs):
    found = find_places(specs, ["jobs"], "config.yaml", None, ["PUBLISH_TIMEOUT=7", "AMQP_URI=memory://defined"])
    assert (found.settings.amqp_uri, found.settings.publish_timeout) == ("memory://defined", 7)


@pytest.mark.parametrize("specs", [["shop:Orders"], []])
def test_the_environment_names_a_broker_where_nothing_else_does(specs, monkeypatch):
    monkeypatch.setenv("AMQP_URI", "memory://environment")
    assert find_places(specs, ["jobs"], None, None).settings.amqp_uri == "memory://environment"
    assert find_places(specs, ["jobs"], "config.yaml", None).settings.amqp_uri == "memory://configured"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([], [], "config.yaml", None), WrongUsageError, "which queues?"),
        (([], ["jobs"], None, None), WrongUsageError, "which broker?"),
        (([], ["jobs"], "nope.yaml", None), WrongUsageError, "there is no config file 'nope.yaml'"),
        (([], ["jobs"], "wrong.yaml", "memory://"), ConfigError, "MAX_WORKERS is 'many'"),
        (([], ["jobs"], None, "http://x"), ConfigError, "AMQP_URI"),
        ((["shop:Orders"], [], None, None), DeclarationError, "AMQP_URI is missing"),
        ((["shop:Order"], [], "config.yaml", None), FailedError, "did you mean 'shop:Orders'?"),
        ((["broken"], [], "config.yaml", None), FailedError, "ValueError: broken"),
        ((["shop.py"], [], "config.yaml", None), WrongUsageError, "did you mean 'shop'?"),
    ],
)
def test_mistakes_are_told(arguments, error, words):
    with pytest.raises(error) as caught:
        find_places(*arguments)
    assert words in (caught.value.message if hasattr(caught.value, "message") else str(caught.value))
