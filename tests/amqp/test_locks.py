"""Cluster-wide timers in running services: two runners of one URI, and replicas that are processes and get killed."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from interop_tests.raw_messages import channel_to
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import DeclarationError
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.runner import Runner
from micro_framework.testing import ManualClock, running, wait_for
from micro_framework.testing.broker_state import VHost
from tests.outside import SECONDS, Outside, memory_uri

LOCK = "mf-timer.ticker.tick"
TAKEOVER_SECONDS = 40.0
"""At the latest; a killed holder's lock is taken over within about a second, a hanging one's within ten."""


class Replica:
    """One runner with a cluster-wide timer on a clock of its own."""

    def __init__(self, uri: str, **options: Any) -> None:
        self.uri = uri
        self.clock = ManualClock()
        self.ticks: queue.SimpleQueue[float] = queue.SimpleQueue()

        class Service:
            name = "ticker"

            @TimeEntrypoint(cluster=True, **options)
            def tick(instance) -> None:  # noqa: N805 - self is the Replica here
                self.ticks.put(self.clock.now())

        self.service = Service

    def runner(self) -> Runner:
        return Runner([self.service], {"AMQP_URI": self.uri}, clock=self.clock)

    def next_tick(self) -> float:
        return self.ticks.get(timeout=TAKEOVER_SECONDS)


@pytest.mark.parametrize("options", [{"interval": 60}, {"cron": "* * * * *"}], ids=["interval", "cron"])
def test_of_two_runners_one_ticks_and_the_other_goes_on_when_it_stops(
    broker_uri: str, outside: Outside, options: dict[str, Any]
) -> None:
    first, second = Replica(broker_uri, eager=True, **options), Replica(broker_uri, eager=True, **options)
    with first.runner() as runner:
        assert first.next_tick() == 0
        with second.runner():
            for minute in range(1, 4):
                with wait_for(runner, "Service.tick"):
                    for each in (first, second):
                        each.clock.advance(60)
                assert first.next_tick() == minute * 60
            runner.stop()
            second.clock.advance(60)  # nobody may hold the lock yet: then it is made up for
            assert second.next_tick() == 240
            assert (first.ticks.empty(), second.ticks.empty()) == (True, True)


def test_a_cluster_wide_timer_tries_again_where_it_failed(broker_uri: str, outside: Outside) -> None:
    clock, attempts = ManualClock(), queue.SimpleQueue[int]()

    class Service:
        name = "ticker"
        retry = BackOffData()

        @route(TimeEntrypoint(60, cluster=True, eager=True), backoff=AsyncBackOff(2, 5000))
        def tick(self) -> None:
            attempts.put(self.retry.retry_count)
            raise TimeoutError

    with running(Service, config={"AMQP_URI": broker_uri}, clock=clock):
        assert attempts.get(timeout=SECONDS) == 0
        for number in (1, 2):
            while attempts.empty():  # the failed attempt may not have been put off yet
                clock.advance(5)
            assert attempts.get(timeout=SECONDS) == number


def test_methods_have_locks_of_their_own_on_one_connection(amqp_uri: str, rabbit: VHost) -> None:
    class Service:
        name = "ticker"

        @TimeEntrypoint(3600, cluster=True)
        def tick(self) -> None: ...

        @TimeEntrypoint(3600, cluster=True)
        def tock(self) -> None: ...

    with running(Service, config={"AMQP_URI": amqp_uri}):
        names = {LOCK, "mf-timer.ticker.tock"}
        rabbit.wait_for(lambda _: names <= set(rabbit.queues()), what="both locks")
        assert len(rabbit.connections()) == 1
    rabbit.wait_for(lambda _: not rabbit.queues(), what="the locks to go")


def test_a_method_carries_one_cluster_wide_timer() -> None:
    class Service:
        name = "ticker"

        @TimeEntrypoint(60, cluster=True)
        @TimeEntrypoint(cron="0 3 * * *", cluster=True)
        def tick(self) -> None: ...

    with (
        pytest.raises(DeclarationError, match="mf-timer.ticker.tick: a method carries one"),
        running(Service, config={"AMQP_URI": memory_uri()}),
    ):
        pass


def test_a_service_without_cluster_wide_timers_has_no_connection_for_them(amqp_uri: str, rabbit: VHost) -> None:
    class Service:
        name = "ticker"

        @TimeEntrypoint(3600)
        def tick(self) -> None: ...

    with running(Service, config={"AMQP_URI": amqp_uri}):
        assert rabbit.connections() == []


def test_the_lock_is_kept_until_the_running_call_has_ended(broker_uri: str, outside: Outside) -> None:
    """Else another replica could tick while the stopping one is still at it."""
    entered, may_end, order = queue.SimpleQueue[str](), queue.SimpleQueue[str](), list[str]()

    def service(name: str) -> type:
        class Service:
            pass

        def tick(self: object) -> None:
            order.append(f"{name} begins")
            entered.put(name)
            may_end.get(timeout=TAKEOVER_SECONDS)
            order.append(f"{name} ends")

        Service.name = "ticker"  # type: ignore[attr-defined]
        Service.tick = TimeEntrypoint(60, cluster=True)(tick)  # type: ignore[attr-defined]
        return Service

    config, clocks = {"AMQP_URI": broker_uri}, [ManualClock(), ManualClock()]
    with running(service("first"), config=config, clock=clocks[0]) as first:
        with wait_for_lock(first):
            clocks[0].advance(60)
        assert entered.get(timeout=SECONDS) == "first"
        with running(service("second"), config=config, clock=clocks[1]) as second:
            first.request_stop()
            for extension in first.assembly.entrypoints():
                extension.stop()
            clocks[1].advance(600)
            may_end.put("first")
            first.stop()
            with wait_for_lock(second):
                clocks[1].advance(60)
            assert entered.get(timeout=TAKEOVER_SECONDS) == "second"
            may_end.put("second")
    assert order == ["first begins", "first ends", "second begins", "second ends"]


@contextlib.contextmanager
def wait_for_lock(runner: Runner) -> Iterator[None]:
    """Until the runner holds the lock of its timer."""
    (entrypoint,) = runner.assembly.entrypoints()
    timer = entrypoint.timer  # type: ignore[attr-defined]
    deadline = time.monotonic() + TAKEOVER_SECONDS
    while not timer.held:
        assert time.monotonic() < deadline, "the lock was not taken over in time"
        runner.lifecycle.wait_until(lambda: timer.held, 0.05)
    yield


# -- replicas that are processes


MODULE = """
    import os

    from micro_framework.entrypoints import TimeEntrypoint


    class Ticker:
        name = "ticker"

        @TimeEntrypoint(interval=1, cluster=True)
        def tick(self):
            with open("ticks", "a") as ticks:
                ticks.write(f"{os.getpid()}\\n")
"""


class Processes:
    """Replicas as users run them, and all that the holder announces."""

    def __init__(self, folder: Path, vhost: VHost) -> None:
        self.folder, self.vhost = folder, vhost
        self.running: list[subprocess.Popen[bytes]] = []
        (folder / "ticker.py").write_text(textwrap.dedent(MODULE))
        (folder / "config.yaml").write_text(f"AMQP_URI: {vhost.uri}\n")
        (folder / "ticks").touch()

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "micro_framework", "run", "ticker:Ticker", "--config", "config.yaml"]
        variables = {key: value for key, value in os.environ.items() if key != "AMQP_URI"}
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(command, cwd=self.folder, env=variables, stdout=output, stderr=output)
        self.running.append(process)
        self.vhost.wait_for(lambda _: self.connected() == len(self.running), 60, "a replica to connect")
        return process

    def connected(self) -> int:
        return sum("mf-locks" in connection.client_name for connection in self.vhost.connections())

    def ticks(self) -> list[int]:
        """Whose ticks there were, in order, by the number of the process."""
        return [int(line) for line in (self.folder / "ticks").read_text().splitlines()]

    def wait_for_tick_of(self, *processes: "subprocess.Popen[bytes]", more_than: int = 0) -> None:
        pids = {process.pid for process in processes}
        self.vhost.wait_for(
            lambda _: sum(pid in pids for pid in self.ticks()) > more_than, TAKEOVER_SECONDS, f"a tick of {pids}"
        )

    def close(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path: Path, rabbit: VHost) -> Iterator[Processes]:
    found = Processes(tmp_path, rabbit)
    yield found
    found.close()


@contextlib.contextmanager
def words_heard(vhost: VHost) -> Iterator[list[str]]:
    """Everything that is announced meanwhile; complete after the block."""
    words: list[str] = []
    with channel_to(vhost.uri) as channel:
        name = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(name, "amq.direct", LOCK)
        yield words
        while (message := channel.basic_get(name, no_ack=True)) is not None:
            words.append(bytes(message.body).decode())


def points(words: list[str]) -> list[int]:
    """The points of the grid, in seconds since 1970, that were ticked."""
    return [int(datetime.fromisoformat(word).timestamp()) for word in words]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_another_process_goes_on_when_the_holder_dies_ends_or_hangs(
    processes: Processes, rabbit: VHost, death: signal.Signals
) -> None:
    with words_heard(rabbit) as words:
        holder = processes.start()
        processes.wait_for_tick_of(holder)
        others = [processes.start(), processes.start()]
        processes.wait_for_tick_of(holder, more_than=len(processes.ticks()) + 1)
        assert set(processes.ticks()) == {holder.pid}
        holder.send_signal(death)
        processes.wait_for_tick_of(*others, more_than=2)
        if death is signal.SIGSTOP:
            holder.send_signal(signal.SIGCONT)
            ticked_by_it = processes.ticks().count(holder.pid)
            processes.wait_for_tick_of(*others, more_than=len(processes.ticks()) + 2 - ticked_by_it)
            assert processes.ticks().count(holder.pid) <= ticked_by_it + 1, "at most the one it was at"
        assert len(set(processes.ticks()) - {holder.pid}) == 1, "one of the others ticks"
    ticked = points(words)
    assert ticked == sorted(set(ticked)), "no point was ticked twice"


@pytest.mark.timeout(240)
def test_in_a_rolling_restart_every_point_is_ticked_once(processes: Processes, rabbit: VHost) -> None:
    """One replica after the other is replaced while the timer ticks every second; the machine may be slow."""
    with words_heard(rabbit) as words:
        old = processes.start()
        processes.wait_for_tick_of(old)
        for _ in range(2):
            new = processes.start()
            old.terminate()
            assert old.wait(TAKEOVER_SECONDS) == 0
            processes.running.remove(old)
            processes.wait_for_tick_of(new, more_than=1)
            old = new
    ticked = points(words)
    assert ticked == sorted(set(ticked)), "no point was ticked twice"
    assert len(processes.ticks()) <= len(ticked)
