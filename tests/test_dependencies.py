"""Dependencies as descriptors, `inject`, and the three that every service can use."""

import logging
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.dependencies import (
    CallContext,
    CallInfo,
    Config,
    Dependency,
    Logger,
    RunningCall,
    inject,
    injected,
)
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import NotInjected
from micro_framework.extensions import Extension
from micro_framework.testing import running, wait_for

ROOT = Path(__file__).resolve().parents[1]


class Number(Dependency[int]):
    def __init__(self, value: int) -> None:
        self.value = value

    def get_dependency(self, worker: RunningCall) -> int:
        return self.value


class Orders:
    name = "orders"

    dispatch = Producer()
    number = Number(5)

    def shout(self) -> int:
        return self.number


def test_on_the_class_it_is_the_declaration() -> None:
    assert isinstance(Orders.dispatch, Producer)
    assert Orders.dispatch.name == "dispatch"


def test_on_an_instance_no_worker_made_it_says_the_way_out() -> None:
    with pytest.raises(NotInjected) as caught:
        Orders().shout()
    text = str(caught.value)
    assert "Orders.number is a dependency" in text
    assert "micro_framework.testing.worker_for(Orders, number=...)" in text
    assert not hasattr(Orders(), "number")


def test_the_way_out_works() -> None:
    from micro_framework.testing import worker_for

    assert worker_for(Orders, number=7).shout() == 7


def test_what_is_put_on_the_instance_wins() -> None:
    orders = Orders()
    orders.__dict__["number"] = 8
    assert orders.number == 8


def test_a_dependency_nested_in_an_extension_is_itself() -> None:
    class Outer(Extension):
        number = Number(1)

    assert isinstance(Outer().number, Number)


def test_a_dependency_without_get_dependency_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Dependency must define get_dependency\(worker\)"):
        Dependency[int]().get_dependency(None)  # type: ignore[arg-type]


@pytest.mark.timeout(300)  # with an empty cache it reads everything that is imported
def test_a_type_checker_knows_both_sides_of_the_descriptor(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(
        textwrap.dedent("""
        from micro_framework.amqp.dependencies import Producer
        from micro_framework.amqp.entrypoints import EventListener
        from micro_framework.dependencies import CallContext, Dependency, RunningCall
        from micro_framework.retry import BackOffData
        from micro_framework.routes import route

        class Number(Dependency[int]):
            def get_dependency(self, worker: RunningCall) -> int:
                return 1

        class Orders:
            dispatch = Producer()
            number = Number()
            retry = BackOffData()
            context = CallContext()

            @EventListener("payments", "refunded")
            def refund(self, payload: str) -> int:
                return self.number

            @route(EventListener("payments", "paid"))
            def pay(self, payload: str) -> int:
                return 2

        orders = Orders()
        reveal_type(Orders.dispatch)
        reveal_type(orders.dispatch)
        reveal_type(orders.number)
        reveal_type(orders.retry.retry_count)
        reveal_type(orders.context)
        reveal_type(orders.refund("a"))
        reveal_type(orders.pay("a"))
        orders.number.nothing
        """)
    )
    options = ["--strict", "--no-error-summary", "--hide-error-context", "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, str(sample)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    lines = [
        line.split(": ", 2)[2].replace("builtins.", "")
        for line in output.stdout.splitlines()
        if line.startswith(str(sample))
    ]
    assert lines == [
        'Revealed type is "micro_framework.amqp.dependencies.Producer"',
        'Revealed type is "micro_framework.amqp.dependencies.Dispatch"',
        'Revealed type is "int"',
        'Revealed type is "int"',
        'Revealed type is "micro_framework.dependencies.CallInfo"',
        'Revealed type is "int"',
        'Revealed type is "int"',
        '"int" has no attribute "nothing"  [attr-defined]',
    ], output.stderr


def test_inject_notes_and_returns_the_target_unchanged() -> None:
    one, two = Number(1), Number(2)

    def target(payload: object, one: int, two: int) -> int:
        return one + two

    assert inject(one=one)(inject(two=two)(target)) is target
    assert injected(target) == {"one": one, "two": two}
    assert target(None, 3, 4) == 7


def test_nothing_is_injected_into_what_was_not_decorated() -> None:
    assert injected(len) == {}


class Curious:
    """What the built-in dependencies give to a call."""

    name = "curious"

    config = Config()
    context = CallContext()
    log = Logger()
    named = Logger("audit")

    @TimeEntrypoint(60, eager=True)
    def look(self) -> tuple[Mapping[str, Any], CallInfo]:
        self.log.info("looking")
        self.named.info("auditing")
        return self.config, self.context


def test_config_context_and_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    from micro_framework.testing import ManualClock

    clock = ManualClock()
    with running(Curious, config={"MY_KEY": "mine"}, clock=clock) as runner:
        with wait_for(runner, "Curious.look") as waited:
            clock.advance(60)
    config, info = waited.result()
    assert config["MY_KEY"] == "mine"
    assert info.call_id.startswith("curious.look.")
    assert info.call_id_stack == (info.call_id,)
    assert (info.origin_call_id, info.immediate_parent_call_id, info.data) == (None, None, {})
    names = {record.message: record.name for record in caplog.records if record.name in ("curious.look", "audit")}
    assert names == {"looking": "curious.look", "auditing": "audit"}
    (record,) = [record for record in caplog.records if getattr(record, "call_id", "") == info.call_id][:1]
    assert (record.service, record.method) == ("curious", "look")  # type: ignore[attr-defined]


def test_injecting_a_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"inject\(config=\.\.\.\) takes an instance such as Producer\(\), not <class"):
        inject(config=Config)  # type: ignore[arg-type]
