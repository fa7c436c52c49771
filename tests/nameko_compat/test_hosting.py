"""``micro-framework run --nameko``: unmodified service files in processes of their own."""

import contextlib
import http.client
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from micro_framework.exceptions import ConfigError, DeclarationError
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import free_port
from nameko_compat.hosting import has_entrypoint, make_runner
from nameko_compat.rpc import rpc
from tests.cli.test_reload import replace
from tests.cli.test_run import Process
from tests.outside import SECONDS
from tests.processes import ServiceProcess

SERVICES = """
    import os

    import eventlet
    from nameko import config
    from nameko.dependency_providers import Config
    from nameko.rpc import rpc
    from nameko.timer import timer
    from nameko.web.handlers import http

    WORD = config.get("WORD")

    class Base:
        @timer(interval=3600, eager=True)
        def tick(self):
            eventlet.sleep(0)
            print("ticked", WORD, self.config["WORD"], flush=True)

    class Orders(Base):
        name = "orders"
        config = Config()

    class Web:
        name = "web"

        @http("GET", "/pid")
        def pid(self, request):
            return str(os.getpid())

    class Nameless:
        @rpc
        def call(self): ...

"""

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``run --nameko`` in a directory with `SERVICES`; what still runs at the end is killed."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SERVICES))
    (tmp_path / "nameko.yaml").write_text("AMQP_URI: memory://\nWORD: hello\n")
    running: list[Process] = []

    def start(*arguments: str) -> Process:
        running.append(Process(tmp_path, "run", "--nameko", *arguments))  # type: ignore[no-untyped-call]
        return running[-1]

    yield start
    for process in running:
        process.close()  # type: ignore[no-untyped-call]


def test_an_unmodified_service_runs_and_stops(start: Start) -> None:
    process = start("shop:Orders", "--config", "nameko.yaml")
    process.expect("ticked hello hello")
    process.send(signal.SIGTERM)
    code, errors = process.end()
    assert code == 0, errors
    assert "ready: orders (1 targets)" in errors


def test_copies_share_the_port_of_a_web_service(start: Start) -> None:
    address = f"127.0.0.1:{free_port()}"
    process = start("shop:Web", "-d", f"WEB_SERVER_ADDRESS={address}", "-d", "PROCESSES=2")
    asked_by, deadline, pause = set(), time.monotonic() + 2 * SECONDS, threading.Event()
    while len(asked_by) < 2:
        assert time.monotonic() < deadline, f"only {asked_by} have answered: {process.errors}"
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        with contextlib.suppress(ConnectionError):
            connection.request("GET", "/pid")
            asked_by.add(connection.getresponse().read())
        connection.close()
        pause.wait(0.05)
    process.send(signal.SIGTERM)
    code, errors = process.end()
    assert code == 0, errors


def test_what_cannot_run_is_told_without_a_traceback(start: Start) -> None:
    code, errors = start("shop:Nameless", "--config", "nameko.yaml").end()
    assert (code, "Traceback" in errors) == (1, False), errors
    assert "Service class must define a `name` attribute (shop.Nameless)" in errors


class Orders:
    name = "orders"

    @rpc
    def create(self) -> None: ...


class Plain: ...


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "AMQP_URI is missing"),
        ({"WORKER_MODE": "process"}, "set PROCESSES to use several processors"),
        ({"SERVICE_CONTAINER_CLS": "shop.nothing"}, "`shop.nothing` could not be imported"),
        ({"NAMEKO_API": 5}, "NAMEKO_API is 2"),
        ({"serializer": "nothing"}, 'register a serializer for "nothing"'),
        ({"HEARTBEAT": "often"}, "HEARTBEAT"),
    ],
)
def test_what_the_configuration_asks_for_in_vain_is_told(config: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, DeclarationError), match=words):
        make_runner([Orders], config)


def test_services_are_told_from_other_classes() -> None:
    assert has_entrypoint(Orders)
    assert not has_entrypoint(Plain)


def test_a_managed_thread_that_fails_ends_the_process(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
            from nameko.extensions import DependencyProvider
            from nameko.timer import timer

            class Failing(DependencyProvider):
                def start(self):
                    self.container.spawn_managed_thread(self.run)

                def run(self):
                    raise LookupError("no such thing")

            class Orders:
                name = "orders"
                failing = Failing()

                @timer(interval=3600)
                def tick(self): ...
        """)
    )
    code, errors = start("shop", "--config", "nameko.yaml").end()
    assert code == 1
    assert "managed thread run of <ServiceContainer [orders]" in errors
    assert "LookupError: no such thing" in errors


def test_without_the_flag_nameko_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import nameko.rpc\n")
    process = Process(tmp_path, "run", "shop")  # type: ignore[no-untyped-call]
    try:
        code, errors = process.end()  # type: ignore[no-untyped-call]
    finally:
        process.close()  # type: ignore[no-untyped-call]
    assert code == 1
    assert "No module named 'nameko'; services written for Nameko run with --nameko" in errors


DECLARED = """
    from kombu import Exchange
    from nameko.events import EventDispatcher, event_handler
    from nameko.extensions import DependencyProvider
    from nameko.messaging import Publisher
    from nameko.rpc import RpcProxy, rpc

    class Database(DependencyProvider):
        def setup(self):
            raise RuntimeError("nobody may set this up")

    class Orders:
        name = "orders"
        database = Database()
        stock = RpcProxy("stock")
        dispatch = EventDispatcher()
        publish = Publisher(exchange=Exchange("audit"))

        @rpc
        def create(self): ...

        @event_handler("payments", "refunded")
        def refund(self, payload): ...
"""


def told(directory: Path, *arguments: str) -> tuple[int, str, str]:
    """What a command that ends by itself prints."""
    process = Process(directory, *arguments)  # type: ignore[no-untyped-call]
    try:
        code, errors = process.end()  # type: ignore[no-untyped-call]
        lines = [process.lines.get() for _ in range(process.lines.qsize())]
    finally:
        process.close()  # type: ignore[no-untyped-call]
    return code, "\n".join(lines), errors


def test_routes_and_check_know_nameko_services(tmp_path: Path, rabbit: VHost) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(DECLARED))
    code, shown, errors = told(tmp_path, "routes", "--nameko", "shop")
    assert (code, errors) == (0, "")
    for part in (
        "Rpc routing_key=orders.create; queue rpc-orders bound to nameko-rpc/orders.*",
        "EventHandler source=payments event=refunded handler_type=service_pool",
        "uses ServiceRpc service=stock",
        "uses EventDispatcher exchange=orders.events",
        "uses Publisher exchange=audit",
    ):
        assert part in shown
    _, drawn, _ = told(tmp_path, "routes", "--nameko", "shop", "--format", "mermaid")
    assert 'svc_orders -.->|"rpc"| svc_stock' in drawn

    with kombu.Connection(rabbit.uri) as connection:
        connection.default_channel.queue_declare("rpc-orders", durable=True, arguments={"x-expires": 60_000})
    code, shown, errors = told(tmp_path, "check", "--nameko", "shop", f"--broker={rabbit.uri}")
    assert (code, errors) == (1, ""), shown
    assert [line for line in shown.splitlines() if line.startswith("error") and "rpc-orders" in line]
    assert shown.splitlines()[-1] == "would not start: 1 error"


def test_nameko_services_are_started_again_when_their_code_changes(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(SERVICES).replace("ticked", "first"))
    (tmp_path / "nameko.yaml").write_text("AMQP_URI: memory://\nWORD: hello\n")
    arguments = ["run", "--nameko", "shop:Orders", "--reload", "--config", "nameko.yaml"]
    process = ServiceProcess(tmp_path, ["-m", "micro_framework", *arguments], PYTHONDONTWRITEBYTECODE="1")
    try:
        process.output.wait_for("first hello hello")
        replace(tmp_path / "shop.py", "import nameko.nothing\n")
        (line,) = process.errors.wait_for("the old goes on")
        assert "nameko.nothing" in line
        replace(tmp_path / "shop.py", textwrap.dedent(SERVICES).replace("ticked", "second"))
        process.output.wait_for("second hello hello")
        process.errors.wait_for("ready: orders", 2)
        process.send(signal.SIGTERM)
        assert process.code() == 0
    finally:
        process.close()


def test_what_is_missing_is_named_with_its_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from nameko.rpc import rpc\n\nfrom eventlet import wsgi\n")
    code, errors = start("shop").end()
    assert code == 1
    assert "eventlet.wsgi is not in nameko_compat" in errors
    assert "line 3" in errors
