"""`Runner`: the two shapes of a service as the documentation shows them, the order of start and stop, signals."""

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.calls import Attempt
from micro_framework.channel import Channel
from micro_framework.copies import Copy
from micro_framework.dependencies import Dependency, RunningCall
from micro_framework.entrypoints import Entrypoint, TimeEntrypoint
from micro_framework.exceptions import (
    BrokerRefused,
    CallsAbandoned,
    ConfigError,
    DeclarationError,
    MicroFrameworkError,
    SetupFailed,
    StartTimeout,
)
from micro_framework.extensions import Extension
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import CallbackRoute, Route, route
from micro_framework.runner import Runner, RunnerContext
from micro_framework.testing import ManualClock, running, wait_for
from micro_framework.wire.naming import event_queue
from tests.outside import SECONDS, Outside, given, memory_uri, recording


@pytest.fixture(params=["memory", "rabbitmq"])
def broker_uri(request: pytest.FixtureRequest) -> str:
    return memory_uri() if request.param == "memory" else request.getfixturevalue("amqp_uri")


@pytest.fixture
def outside(broker_uri: str) -> Iterator[Outside]:
    outside = Outside(broker_uri)
    yield outside
    outside.close()


@contextmanager
def started_blocking(runner: Runner) -> Iterator[None]:
    """``runner.start()`` on a thread, ready inside the block, and returned after it."""
    raised: list[BaseException] = []

    def start() -> None:
        try:
            runner.start()
        except BaseException as error:  # noqa: BLE001 - told by the assertion below
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert runner.lifecycle.wait_until(lambda: runner.ready or bool(raised), SECONDS)
        yield
    finally:
        runner.request_stop()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert raised == []


# -- the shapes of a service


class Tasks(types.ModuleType):
    """The seed's module ``tasks``, which writes down what its functions get."""

    def __init__(self) -> None:
        super().__init__("tasks")
        self.tried: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.tried2: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.failed: queue.SimpleQueue[tuple[Any, Attempt]] = queue.SimpleQueue()

        def test(payload: Any, producer: Any) -> None:
            self.tried.put(payload)
            raise ValueError("always fails")

        def test2(payload: Any) -> None:
            self.tried2.put(payload)

        def test_failure(payload: Any, producer: Any, retry: Attempt) -> None:
            producer("event_name", {"failed": payload})
            self.failed.put((payload, retry))

        self.test, self.test2, self.test_failure = test, test2, test_failure


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    tasks = Tasks()
    monkeypatch.setitem(sys.modules, "tasks", tasks)
    return tasks


def test_the_seeds_example(broker_uri: str, outside: Outside, tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    config = {
        "AMQP_URI": broker_uri,
        "MAX_WORKERS": 3,
        "SERVICE_NAME": "my_service",
        "WORKER_MODE": "thread",
    }
    routes = [
        CallbackRoute(
            "tasks.test",
            callback_function_path="tasks.test_failure",
            entrypoint=EventListener(source_service="my_exchange", event_name="my_routing_key"),
            dependencies={"producer": Producer(), "retry": BackOffData()},
            backoff=AsyncBackOff(max_retries=5, interval=10, exception_list=None),
        ),
        Route("tasks.test2", entrypoint=EventListener(source_service="my_service", event_name="event_name")),
    ]
    with started_blocking(Runner(routes, config)):
        outside.event("my_exchange", "my_routing_key", {"id": 1})
        payload, retry = tasks.failed.get(timeout=SECONDS)
        assert (payload, retry.retry_count, retry.max_retries, len(retry.history)) == ({"id": 1}, 5, 5, 5)
        assert tasks.tried2.get(timeout=SECONDS) == {"failed": {"id": 1}}
    assert tasks.tried.qsize() == 6
    assert outside.take_all(event_queue("my_exchange", "my_routing_key", service="my_service", method="test")) == []
    assert "does not name the dependency" not in caplog.text


def test_a_service_class(broker_uri: str, outside: Outside) -> None:
    refunds: queue.SimpleQueue[tuple[str, Any, int, str]] = queue.SimpleQueue()
    ticked = threading.Event()

    class Orders:
        name = "orders"

        dispatch = Producer()
        retry = BackOffData()

        @EventListener("web", "order_requested")
        def create(self, payload: Any) -> None:
            self.dispatch("order_created", {"customer": payload["customer"]})

        @route(
            EventListener("payments", "refunded"),
            backoff=AsyncBackOff(max_retries=2, interval=5, exception_list=[TimeoutError]),
            on_failure="refund_failed",
            context="slow",
        )
        def refund(self, payload: Any) -> None:
            refunds.put(("refund", payload, self.retry.retry_count, threading.current_thread().name))
            raise TimeoutError("bank does not answer")

        def refund_failed(self, payload: Any, exception: BaseException | None = None) -> None:
            refunds.put((f"failed: {exception}", payload, self.retry.retry_count, threading.current_thread().name))

        @TimeEntrypoint(interval=60, eager=True)
        def tick(self) -> None:
            ticked.set()

    heard = outside.listen("orders")
    config = {"AMQP_URI": broker_uri, "CONTEXTS": {"slow": {"MAX_WORKERS": 1}}}
    with Runner([Orders], config) as runner:
        assert runner.ready
        outside.event("web", "order_requested", {"customer": 7})
        assert (heard.next().body, ticked.wait(SECONDS)) == (b'{"customer": 7}', True)
        outside.event("payments", "refunded", "r")
        seen = [refunds.get(timeout=SECONDS) for _ in range(4)]
    assert [entry[:3] for entry in seen] == [
        ("refund", "r", 0),
        ("refund", "r", 1),
        ("refund", "r", 2),
        ("failed: bank does not answer", "r", 2),
    ]
    assert {entry[3] for entry in seen} == {"mf-worker-slow-0"}


def test_classes_routes_and_contexts_are_mixed_at_will(broker_uri: str, outside: Outside) -> None:
    heard: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def hear(name: str) -> Callable[[Any], None]:
        def handle(payload: Any) -> None:
            heard.put((name, threading.current_thread().name.rsplit("-", 1)[0]))

        return handle

    service, calls = recording(EventListener("web", "clicked"))
    runner = Runner(
        [
            service,
            Route(hear("alone"), EventListener("web", "alone")),
            RunnerContext([Route(hear("fast"), EventListener("web", "fast"))], name="fast", max_workers=3),
            RunnerContext(
                [Route(hear("slow"), EventListener("web", "slow"))], name="slow", worker_mode="greedy_thread"
            ),
        ],
        {"AMQP_URI": broker_uri, "SERVICE_NAME": "shop"},
    )
    with runner:
        for name in ("alone", "fast", "slow", "clicked"):
            outside.event("web", name, name)
        assert {heard.get(timeout=SECONDS) for _ in range(3)} == {
            ("alone", "mf-worker-default"),
            ("fast", "mf-worker-fast"),
            ("slow", "mf-worker-slow"),
        }
        assert calls.next() == "clicked"


def test_every_call_gets_a_fresh_instance() -> None:
    instances: list[object] = []

    class Orders:
        name = "orders"
        dispatch = Producer()

        @EventListener("orders", "created")
        def handle(self, payload: Any) -> None:
            instances.append(self)

    with running(Orders) as runner:
        for _ in range(2):
            with wait_for(runner, "Orders.handle"):
                given(runner, "dispatch")("created", None)
    assert len(instances) == len({id(instance) for instance in instances}) == 2


# -- the order of start and stop


class Diary(Extension):
    """Writes down its hooks, and fails in the one it is told to."""

    label = "nested"

    def __init__(self, written: list[str], fails_in: str = "", error: BaseException | None = None) -> None:
        self.written, self.fails_in, self.error = written, fails_in, error or ValueError("broken")

    def write(self, hook: str) -> None:
        self.written.append(f"{self.label}.{hook}")
        if hook == self.fails_in:
            raise self.error

    def setup(self) -> None:
        self.write("setup")

    def start(self) -> None:
        self.write("start")

    def stop(self) -> None:
        self.write("stop")


class DiaryDependency(Diary, Dependency[int]):
    label = "dependency"

    def __init__(self, written: list[str], fails_in: str = "", error: BaseException | None = None) -> None:
        super().__init__(written, fails_in, error)
        self.nested = Diary(written)

    def get_dependency(self, worker: RunningCall) -> int:
        return 1


class DiaryEntrypoint(Diary, Entrypoint):
    label = "entrypoint"


def with_diary(fails_in: str = "", error: BaseException | None = None) -> tuple[list[str], Runner]:
    written: list[str] = []

    def target(number: int) -> None: ...

    declared = Route(target, DiaryEntrypoint(written), {"number": DiaryDependency(written, fails_in, error)})
    return written, Runner([declared], {"SERVICE_NAME": "orders"})


ALL_SET_UP = ["nested.setup", "dependency.setup", "entrypoint.setup"]
ALL_STARTED = ["nested.start", "dependency.start", "entrypoint.start"]
ALL_STOPPED = ["entrypoint.stop", "dependency.stop", "nested.stop"]


def test_everything_is_set_up_before_anything_starts_and_stopped_in_reverse() -> None:
    written, runner = with_diary()
    assert written == [], "building a runner runs no hook"
    with runner:
        assert written == ALL_SET_UP + ALL_STARTED
    assert written == ALL_SET_UP + ALL_STARTED + ALL_STOPPED


@pytest.mark.parametrize(
    ("hook", "written_before"),
    [
        ("setup", ["nested.setup", "dependency.setup"]),
        ("start", [*ALL_SET_UP, "nested.start", "dependency.start", "dependency.stop", "nested.stop"]),
    ],
)
@pytest.mark.parametrize("blocking", [True, False])
def test_an_extension_that_fails_ends_the_start_by_name(hook: str, written_before: list[str], blocking: bool) -> None:
    written, runner = with_diary(hook)
    with pytest.raises(SetupFailed, match=f"DiaryDependency: {hook} failed: ValueError: broken") as caught:
        runner.start() if blocking else runner.__enter__()
    assert isinstance(caught.value.__cause__, ValueError)
    assert written == written_before
    assert not runner.ready


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_leaving_in_a_hook_leaves_with_nothing_running(error: BaseException) -> None:
    written, runner = with_diary("start", error)
    with pytest.raises(type(error)), runner:
        pass
    assert written[-2:] == ["dependency.stop", "nested.stop"]


def test_an_extension_that_cannot_stop_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    written, runner = with_diary("stop")
    with runner:
        pass
    assert written[-3:] == ALL_STOPPED
    assert "DiaryDependency could not be stopped cleanly" in caplog.text


class Slow(Dependency[int]):
    """Becomes ready when the test says so."""

    ready = False

    def get_dependency(self, worker: RunningCall) -> int:
        return 1

    def is_ready(self) -> bool:
        return self.ready


class Waiting:
    name = "waiting"
    slow = Slow()

    @TimeEntrypoint(60)
    def tick(self) -> None: ...


def test_a_block_begins_when_every_extension_is_ready() -> None:
    runner = Runner([Waiting], {})
    (slow,) = runner.assembly.dependencies()

    def become_ready() -> None:
        slow.ready = True  # type: ignore[attr-defined]
        runner.lifecycle.notify()

    timer = threading.Timer(0.02, become_ready)
    timer.start()
    with runner:
        assert slow.is_ready()
        assert runner.ready
    timer.join(SECONDS)
    assert not runner.ready


def test_a_block_names_what_did_not_become_ready() -> None:
    with pytest.raises(StartTimeout, match=r"not ready within START_TIMEOUT \(0.01 s\): Slow\."):
        Runner([Waiting], {"START_TIMEOUT": 0.01}).__enter__()


def test_a_failure_that_will_not_change_ends_the_run() -> None:
    written, runner = with_diary()
    failure = MicroFrameworkError("gone for good")
    threading.Timer(0.01, runner.lifecycle.fail, [failure]).start()
    with pytest.raises(MicroFrameworkError, match="gone for good"):
        runner.start()
    assert written[-3:] == ALL_STOPPED


@pytest.mark.parametrize("begin", [Runner.start, Runner.__enter__])
def test_a_runner_runs_once(begin: Callable[[Runner], Any]) -> None:
    _, runner = with_diary()
    with runner:
        pass
    with pytest.raises(MicroFrameworkError, match="a runner runs once, and this one has run; build a new Runner"):
        begin(runner)


def test_a_stop_is_logged_at_its_begin_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro_framework.runner")
    ticking = type("Ticking", (), {"name": "ticking", "tick": TimeEntrypoint(60)(lambda self: None)})
    with Runner([ticking], {"SHUTDOWN_TIMEOUT": 7}):
        caplog.clear()
    assert caplog.messages == ["stopping; running calls have 7 s to finish", "stopped"]


def test_stopping_is_idempotent_and_may_come_first() -> None:
    written, runner = with_diary()
    runner.stop()
    runner.stop()
    assert written == []


def test_a_stop_from_elsewhere_ends_a_blocking_start() -> None:
    written, runner = with_diary()
    with started_blocking(runner):
        runner.stop()
    assert written == ALL_SET_UP + ALL_STARTED + ALL_STOPPED


def test_a_stop_during_the_start_stops_all_that_was_started() -> None:
    written: list[str] = []

    class Late(DiaryDependency):
        label = "late"

        def start(self) -> None:
            super().start()
            stopping.start()
            stopping.join(0.1)  # a stop that does not wait for the start to end has ended by then

    def target(number: int, late: int) -> None: ...

    declared = {"late": Late(written), "number": DiaryDependency(written)}
    runner = Runner([Route(target, DiaryEntrypoint(written), declared)], {"SERVICE_NAME": "orders"})
    stopping = threading.Thread(target=runner.stop)
    runner.begin()
    stopping.join(SECONDS)
    started, stopped = ({hook.split(".")[0] for hook in written if hook.endswith(end)} for end in (".start", ".stop"))
    assert started == stopped == {"nested", "late", "dependency", "entrypoint"}


# -- calls that do not end


def test_calls_that_do_not_end_are_abandoned_by_name_and_delivered_again(broker_uri: str, outside: Outside) -> None:
    began, may_end = threading.Event(), threading.Event()

    def hang(payload: Any) -> None:
        began.set()
        may_end.wait(SECONDS)

    service, _ = recording(EventListener("payments", "refunded"), then=hang)
    config = {"AMQP_URI": broker_uri, "SHUTDOWN_TIMEOUT": 0.05, "MAX_WORKERS": 1}
    try:
        with pytest.raises(CallsAbandoned) as caught, Runner([service], config):  # noqa: PT012 - raised at the block's end
            outside.event("payments", "refunded", "precious")
            assert began.wait(SECONDS)
        assert caught.value.calls == ("Orders.handle",)
        (left,) = outside.take_all(event_queue("payments", "refunded", service="orders", method="handle"))
        assert (left.body, left.redelivered) == (b'"precious"', True)
    finally:
        may_end.set()


def test_a_call_of_a_thread_that_takes_too_long_is_reported_and_goes_on(
    broker_uri: str, outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = threading.Event()
    service, calls = recording(EventListener("payments", "refunded"), then=lambda payload: may_end.wait(SECONDS))
    with running(service, config={"AMQP_URI": broker_uri, "TASK_TIMEOUT": 0.05}) as runner:
        with wait_for(runner, "Orders.handle") as waited:
            outside.event("payments", "refunded", 1)
            calls.next()
            overdue = "Orders.handle: call orders.handle."
            assert any(overdue in caplog.text or may_end.wait(0.02) for _ in range(int(SECONDS / 0.02)))
            may_end.set()
    assert waited.outcome is not None
    assert waited.outcome.error is None
    assert "has been running for longer than TASK_TIMEOUT (0.05 s)" in caplog.text
    assert "may_end.wait(SECONDS)" in caplog.text


# -- logging and signals belong to the user


def test_logging_is_left_alone_unless_it_is_configured() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    _, runner = with_diary()
    with runner:
        assert (root.level, list(root.handlers)) == before


def test_logging_is_configured_where_it_is_given() -> None:
    logger = logging.getLogger("some.quiet.part")

    @TimeEntrypoint(60)
    def tick(self: Any) -> None: ...

    service = type("Service", (), {"name": "service", "tick": tick})
    with Runner([service], {"LOGGING": {"loggers": {"some.quiet.part": {"level": "CRITICAL"}}}}):
        assert logger.level == logging.CRITICAL
    broken = Runner([service], {"LOGGING": {"handlers": {"nowhere": {"class": "no.such.Handler"}}}})
    with pytest.raises(ConfigError, match=r"LOGGING is not what logging\.config\.dictConfig takes"):
        broken.start()


@pytest.mark.parametrize("in_main_thread", [True, False])
def test_signal_handlers_are_those_of_before_when_it_returns(in_main_thread: bool) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    _, runner = with_diary()
    if in_main_thread:
        runner.request_stop()
        runner.start()
    else:
        with started_blocking(runner):
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


SERVICE = """
    import sys
    from micro_framework.entrypoints import TimeEntrypoint
    from micro_framework.runner import Runner

    class Once(TimeEntrypoint):
        def stop(self):
            super().stop()
            print("stopping", flush=True)

    class Orders:
        name = "orders"

        @Once(3600, eager=True)
        def work(self):
            print("working", flush=True)
            print("worked", sys.stdin.readline().strip(), flush=True)

    Runner([Orders], {"SHUTDOWN_TIMEOUT": float(sys.argv[1])}).start()
    print("returned", flush=True)
"""


class Service:
    """A process whose only call waits for a line of input."""

    def __init__(self, folder: Path, shutdown_timeout: float = 30) -> None:
        script = folder / "service.py"
        script.write_text(textwrap.dedent(SERVICE))
        root = str(Path(__file__).resolve().parents[1])
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(shutdown_timeout)],
            env={**os.environ, "PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def finish(self, text: str = "") -> tuple[int, str, str]:
        """Exit code, the rest of the output, and the errors."""
        output, errors = self.process.communicate(text, timeout=SECONDS)
        return self.process.returncode, output, errors


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(**options: Any) -> Service:
        made.append(Service(tmp_path, **options))
        assert made[-1].line() == "working"
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_running_calls_finish(service: Callable[..., Service], number: signal.Signals) -> None:
    process = service()
    process.process.send_signal(number)
    assert process.line() == "stopping"
    assert process.finish("in peace\n") == (0, "worked in peace\nreturned\n", "")


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_it_at_once(service: Callable[..., Service], second: signal.Signals, code: int) -> None:
    process = service()
    process.process.send_signal(signal.SIGTERM)
    # Only then: signals that are pending together arrive in the order of their numbers.
    assert process.line() == "stopping"
    for _ in range(50):  # one of the same kind right after the first counts as the first
        process.process.send_signal(second)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.process.wait(0.1)
            break
    assert process.process.wait(SECONDS) == code
    _, output, errors = process.finish()
    assert (output, errors) == ("", "second signal: ending at once; running calls are delivered again\n")


def test_a_call_that_does_not_end_after_a_signal_is_abandoned(service: Callable[..., Service]) -> None:
    process = service(shutdown_timeout=0.05)
    process.process.send_signal(signal.SIGTERM)
    assert process.line() == "stopping"
    assert process.process.wait(SECONDS) == 1
    _, output, errors = process.finish()
    assert output == ""
    assert "1 running call did not finish within SHUTDOWN_TIMEOUT (0.05 s)" in errors
    assert "Orders.work" in errors


# -- copies; that they run is in test_supervisor


def test_a_block_has_no_room_for_copies() -> None:
    runner = Runner([Waiting], {"PROCESSES": 2})
    with pytest.raises(ConfigError, match=r"PROCESSES is 2, and `with Runner\(\.\.\.\)` runs the services in this one"):
        runner.__enter__()
    with (
        pytest.raises(ConfigError, match="PROCESSES is 2"),
        running(Waiting, config={"PROCESSES": 2, "AMQP_URI": None}),
    ):
        pass


def test_copies_have_clocks_of_their_own() -> None:
    runner = Runner([Waiting], {"PROCESSES": 2}, clock=ManualClock())
    with pytest.raises(ConfigError, match="the clock that was given lives in one process"):
        runner.start()


def test_what_cannot_be_handed_to_copies_is_refused_before_any_starts() -> None:
    local = type("Local", (Waiting,), {})
    with pytest.raises(DeclarationError, match="class Local cannot be handed to other processes"):
        Runner([local], {"PROCESSES": 2}).start()


class Recorded(Copy):
    """A copy without a supervisor, that writes down what it says."""

    def __init__(self) -> None:
        self.stream, self.other = socket.socketpair()
        super().__init__("copy-1", Channel(self.stream, SECONDS))
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def started(self, timers: int, on_timers: Callable[[], None]) -> None:
        super().started(timers, on_timers)
        self.said.put(f"started, {timers} timers held back")

    def ready(self, what: str) -> None:
        self.said.put(f"ready: {what}")

    def stopping(self) -> None:
        self.said.put("stopping")


@contextmanager
def as_copy(runner: Runner) -> Iterator[Recorded]:
    copy = Recorded()
    thread = threading.Thread(target=runner.start_as, args=[copy])
    thread.start()
    try:
        yield copy
    finally:
        copy.asked_to_stop()
        thread.join(SECONDS)
        copy.channel.close()
        copy.other.close()
    assert not thread.is_alive()


def test_a_copy_says_how_far_it_is_and_holds_timers_back_until_it_is_the_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ticked = threading.Event()
    eager = type("Eager", (), {"name": "eager", "tick": TimeEntrypoint(60, eager=True)(lambda self: ticked.set())})
    runner = Runner([eager, Waiting], {"PROCESSES": 2})
    (slow,) = runner.assembly.dependencies()
    with as_copy(runner) as copy:
        assert copy.said.get(timeout=SECONDS) == "started, 2 timers held back"
        slow.ready = True  # type: ignore[attr-defined]
        runner.lifecycle.notify()
        assert copy.said.get(timeout=SECONDS) == "ready: eager (1 targets), waiting (1 targets)"
        assert [extension for extension in runner.started if isinstance(extension, Entrypoint)] == []
        copy.obey({"name": "timers"})
        assert ticked.wait(SECONDS)
    assert copy.said.get(timeout=SECONDS) == "stopping"
    assert not [message for message in caplog.messages if message.startswith("ready:")], "the supervisor says that"


def test_a_copy_that_stops_starts_no_timers() -> None:
    written, runner = with_diary()
    (entrypoint,) = runner.assembly.entrypoints()
    entrypoint.runs_in_one_copy = lambda: True  # type: ignore[attr-defined]
    with as_copy(runner) as copy:
        assert copy.said.get(timeout=SECONDS) == "ready: orders (1 targets)"
        assert copy.said.get(timeout=SECONDS) == "started, 1 timers held back"
        with runner.transition:  # as a stop does
            asking = threading.Thread(target=copy.obey, args=[{"name": "timers"}])
            asking.start()
            asking.join(SECONDS)
            assert not asking.is_alive()
    copy.obey({"name": "timers"})
    assert "entrypoint.start" not in written
    assert written[-2:] == ["dependency.stop", "nested.stop"]


def test_timers_that_cannot_start_end_the_copy() -> None:
    written: list[str] = []
    failing = DiaryEntrypoint(written, "start")
    failing.runs_in_one_copy = lambda: True  # type: ignore[method-assign]
    runner = Runner([Route(lambda: None, failing)], {"SERVICE_NAME": "orders"})
    raised: list[BaseException] = []
    copy = Recorded()

    def start() -> None:
        try:
            runner.start_as(copy)
        except SetupFailed as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert copy.said.get(timeout=SECONDS).startswith("ready")
    assert copy.said.get(timeout=SECONDS).startswith("started")
    copy.obey({"name": "timers"})
    thread.join(SECONDS)
    copy.channel.close()
    copy.other.close()
    assert [str(error) for error in raised] == ["DiaryEntrypoint: start failed: ValueError: broken"]


def test_a_failure_after_the_start_of_a_block_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    service, _ = recording(EventListener("shop", "sold"))
    with Runner([service], {"AMQP_URI": memory_uri()}) as runner:
        runner.lifecycle.fail(BrokerRefused("queue 'jobs' is there with other flags"))
    assert "the services of this block run no more: queue 'jobs' is there with other flags" in caplog.text
