"""Fixtures of every test: the run's broker, a virtual host per test, a node to hurt, no threads left over.

The run has one RabbitMQ node. The process that controls the run owns it, starts it when the first test asks for
it and removes it at the end; the workers of pytest-xdist ask over a Unix socket. With `AMQP_URI` set, the broker
named there is used instead, and tests that would kill it are listed as not run.

Environment: `AMQP_URI`, `MF_MANAGEMENT_URI` (its HTTP API), `CI` (a skipped test fails the run), `MF_SOAK`
(factor by which fault tests are larger).
"""

import contextlib
import gc
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from micro_framework.testing.broker_state import VHost
from micro_framework.testing.erlang import ErlangAdmin
from micro_framework.testing.management import ManagementAdmin
from micro_framework.testing.rabbitmq import RabbitMQNode

NODE_START_SECONDS = 90
THREAD_END_SECONDS = 5.0
SOAK_TIMEOUT_SECONDS = 1800
MEMORY_FILES = "/dev/shm"
NEEDED_MEMORY_BYTES = 2 * 1024**3  # the log of all quorum queues alone may grow to 512 MiB
OWN_THREAD_PREFIX = "mf-"

broker_key = pytest.StashKey["SharedBroker"]()
not_run_key = pytest.StashKey[set[str]]()


class SharedBroker:
    """Starts a node at the first request and tells every process of the run how to reach it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mf-test-run-")
        self.path = str(Path(self.folder.name) / "broker.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.node: RabbitMQNode | None = None
        self.closed = False
        self.thread = threading.Thread(target=self._serve, name="test-run-broker", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self.listener.accept()
            with client, contextlib.suppress(BrokenPipeError):
                if self.closed:
                    return
                client.sendall(json.dumps(self._answer()).encode())

    def _answer(self) -> dict[str, Any]:
        try:
            if self.node is None:
                self.node = RabbitMQNode(files_in=folder_in_memory())
            return dict(self.node.start().settings())
        except Exception as error:  # noqa: BLE001 -- the asking test reports it
            return {"error": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        # A last connection of our own wakes the thread.
        self.closed = True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waker:
            waker.connect(self.path)
        self.thread.join(NODE_START_SECONDS)
        self.listener.close()
        if self.node is not None:
            self.node.close()
        self.folder.cleanup()


def folder_in_memory() -> str | None:
    """Where files need no disk, if there is room enough: for the shared node, which no test kills or restarts."""
    with contextlib.suppress(OSError):
        if os.access(MEMORY_FILES, os.W_OK) and shutil.disk_usage(MEMORY_FILES).free >= NEEDED_MEMORY_BYTES:
            return MEMORY_FILES
    return None


def ask_for_broker(path: str) -> ErlangAdmin:
    """The run's node, started if this is the first request."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(NODE_START_SECONDS)
        asking.connect(path)
        with asking.makefile("rb") as stream:
            answer = json.loads(stream.read())
    if "error" in answer:
        pytest.fail(f"the run has no broker: {answer['error']}", pytrace=False)
    return ErlangAdmin(**answer)


# -- the run


def foreign_broker() -> str | None:
    return os.environ.get("AMQP_URI") or None


def soak_factor() -> int:
    return int(os.environ.get("MF_SOAK") or 1)


def is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[not_run_key] = set()
    if is_controller(config) and not foreign_broker():
        config.stash[broker_key] = SharedBroker()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if broker_key in node.config.stash:
        node.workerinput["broker_path"] = node.config.stash[broker_key].path


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    node.config.stash[not_run_key].update(output.get("not_run", ()))


def pytest_unconfigure(config: pytest.Config) -> None:
    if broker_key in config.stash:
        config.stash[broker_key].close()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector off half a million objects of collected tests, which live to the end anyway."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "own_node" in getattr(item, "fixturenames", ()):
            item.add_marker("kills_broker")
        if soak_factor() > 1 and item.get_closest_marker("fault"):
            item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT_SECONDS), append=False)
    if foreign_broker():
        leave_out(config, items, [item for item in items if item.get_closest_marker("kills_broker")])


def leave_out(config: pytest.Config, items: list[pytest.Item], chosen: list[pytest.Item]) -> None:
    config.stash[not_run_key].update(item.nodeid for item in chosen)
    items[:] = [item for item in items if item not in chosen]
    config.hook.pytest_deselected(items=chosen)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if not is_controller(config):
        config.workeroutput["not_run"] = list(config.stash[not_run_key])  # type: ignore[attr-defined]
    elif skips_forbidden() and skipped_reports(config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def skips_forbidden() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")


def skipped_reports(config: pytest.Config) -> list[Any]:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    return list(reporter.stats.get("skipped", ())) if reporter else []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    not_run = config.stash[not_run_key]
    if not_run:
        terminalreporter.section("not run: they would kill the broker of AMQP_URI")
        for nodeid in sorted(not_run):
            terminalreporter.write_line(f"NOT RUN {nodeid}")
    if skips_forbidden() and skipped_reports(config):
        terminalreporter.section("skipped tests fail a CI run")
        for report in skipped_reports(config):
            terminalreporter.write_line(f"SKIPPED {report.nodeid}")


# -- fixtures


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> ErlangAdmin | ManagementAdmin:
    """The run's broker: the shared node, or the one `AMQP_URI` names."""
    uri = foreign_broker()
    if uri:
        return ManagementAdmin(uri, os.environ.get("MF_MANAGEMENT_URI"))
    config = request.config
    path = config.stash[broker_key].path if is_controller(config) else config.workerinput["broker_path"]  # type: ignore[attr-defined]
    return ask_for_broker(path)


@pytest.fixture
def rabbit(broker: ErlangAdmin | ManagementAdmin) -> Iterator[VHost]:
    """An empty virtual host of the test's own: its URI, what is in it, and waiting for it to change."""
    vhost = broker.vhost()
    yield vhost
    broker.delete_vhost(vhost.name)


@pytest.fixture
def amqp_uri(rabbit: VHost) -> str:
    """The URI of the test's own empty virtual host."""
    return rabbit.uri


@pytest.fixture(scope="session")
def node_to_hurt() -> Iterator[RabbitMQNode]:
    with contextlib.closing(RabbitMQNode()) as node:
        yield node


@pytest.fixture
def own_node(node_to_hurt: RabbitMQNode) -> Iterator[RabbitMQNode]:
    """A running, empty node that the test may kill, stop, pause and alarm."""
    node_to_hurt.start(NODE_START_SECONDS)
    for vhost in node_to_hurt.vhosts():
        if vhost != "/":
            node_to_hurt.delete_vhost(vhost)
    yield node_to_hurt
    node_to_hurt.resume()
    if node_to_hurt.is_running():
        node_to_hurt.set_memory_alarm(False)
        node_to_hurt.set_disk_alarm(False)


@pytest.fixture
def soak_size() -> Callable[[int], int]:
    """Scales the size of a fault test: `soak_size(500)` is 500, or `MF_SOAK` times as much."""
    return lambda size: size * soak_factor()


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fails a test after which a thread of the framework still runs 5 s later."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_END_SECONDS
    for thread in own_threads() - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = sorted(thread.name for thread in own_threads() - before)
    if left:
        pytest.fail(f"threads left running: {', '.join(left)}", pytrace=False)


def own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(OWN_THREAD_PREFIX)}
