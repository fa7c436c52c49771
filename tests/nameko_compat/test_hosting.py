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

import pytest

from micro_framework.exceptions import ConfigError, DeclarationError
from micro_framework.testing.rabbitmq import free_port
from nameko_compat.hosting import has_entrypoint, make_runner
from nameko_compat.rpc import rpc
from tests.cli.test_run import Process
from tests.outside import SECONDS

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
    assert "No module named 'nameko'" in errors


def test_what_is_missing_is_named_with_its_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from nameko.rpc import rpc\n\nfrom eventlet import wsgi\n")
    code, errors = start("shop").end()
    assert code == 1
    assert "eventlet.wsgi is not in nameko_compat" in errors
    assert "line 3" in errors
