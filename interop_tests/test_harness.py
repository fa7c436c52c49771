"""The harness itself: Nameko talks to Nameko, drivers call, failures show what Nameko said."""

import pytest

from interop_tests.nameko_process import Nameko, NamekoDriver, NamekoError, consumers_of


def test_namekos_source_reaches_namekos_target(nameko: Nameko, nameko_driver: NamekoDriver) -> None:
    with nameko.run("nameko_services:Source", "nameko_services:Target") as services:
        nameko_driver.call("source", "emit", ["evt.single", {"id": 1}])
        nameko.vhost.wait_until_drained("evt-source-evt.single", "evt-source-evt.*--target.on_wildcard")
        assert sorted(nameko_driver.log()) == [["single", {"id": 1}], ["wild", {"id": 1}]]
        assert services.stop() == 0


def test_the_driver_dispatches_by_itself(nameko: Nameko, nameko_driver: NamekoDriver) -> None:
    nameko.run("nameko_services:Target")
    nameko_driver.dispatch("source", "evt.single", [1, None, "café"])
    nameko.vhost.wait_until_drained("evt-source-evt.single")
    assert ["single", [1, None, "café"]] in nameko_driver.log()


def test_the_driver_sends_context_and_shows_remote_errors(nameko: Nameko, nameko_driver: NamekoDriver) -> None:
    nameko.run("nameko_services:Target")
    seen = nameko_driver.call("target", "context", context_data={"language": "de"})
    assert seen["data"]["language"] == "de"
    with pytest.raises(NamekoError) as caught:
        nameko_driver.call("target", "fail", kwargs={"kind": "keyerror"})
    assert caught.value.remote["exc_type"] == "KeyError"


def test_a_service_that_cannot_start_shows_its_words(nameko: Nameko) -> None:
    with pytest.raises(NamekoError, match="no_such_module"):
        nameko.run("no_such_module", consumers=1)


def test_a_hanging_service_is_killed(nameko: Nameko) -> None:
    services = nameko.run("nameko_services:Target")
    assert services.process is not None
    services.process.send_signal(19)
    assert services.stop(timeout=0.5) == -9


SOURCE = """
class Both:
    @rpc
    def one(self): ...
    @rpc(expected_exceptions=E)
    def two(self): ...
    @event_handler("a", "b")
    @event_handler("a", "c")
    def three(self, payload): ...

class Timed:
    @timer(interval=1)
    def tick(self): ...
"""


@pytest.mark.parametrize(("classes", "expected"), [((), 3), (("Both",), 3), (("Timed",), 0)])
def test_consumers_are_counted_in_the_code(classes: tuple[str, ...], expected: int) -> None:
    assert consumers_of(SOURCE, classes) == expected
