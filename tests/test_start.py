"""What a service imports until it is ready, by names and number: no timing, so a slow machine changes nothing.

Importing is nine tenths of a start. What is listed here is imported when something asks for it: another serializer, a
configuration file, a timer, metrics, worker processes.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from micro_framework.testing.broker_state import VHost

SECONDS = 60.0

SERVICE = """
from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, QueueListener, RPCListener


class Shop:
    name = "shop"
    dispatch = Producer()
    other = RPCProxy("other")

    @EventListener("shop", "opened")
    def on_opened(self, payload):
        pass

    @QueueListener("orders")
    def on_order(self, payload):
        pass

    @RPCListener()
    def price(self, item):
        return 1
"""

PROGRAM = """
import sys

from micro_framework.runner import Runner
from shop import Shop

with Runner([Shop], {"AMQP_URI": sys.argv[1]}):
    print(*sys.modules)
"""

COMMAND = """
import sys

from micro_framework.cli import main
from micro_framework.runner import Runner

Runner.start = lambda runner: print(*sys.modules)  # where everything is imported, and nothing connects yet
sys.argv[1:] = ["run", "shop", "--broker", "amqp://localhost"]
main()
"""

LATER = (
    *["kombu", "yaml", "cronsim", "zoneinfo", "importlib.metadata", "email", "zipfile", "http", "asyncio"],
    *["multiprocessing", "prometheus_client", "opentelemetry", "rich", "websockets"],
    *["micro_framework.metrics", "micro_framework.observe", "micro_framework.websocket", "micro_framework.testing"],
    *["micro_framework.brokers.memory", "micro_framework.config.text", "micro_framework.supervisor"],
    *["micro_framework.spawners.process", "micro_framework.spawners.keeper", "micro_framework.spawners.inside"],
)
OWN_AT_MOST = 99
"""Modules of our own: as many as there are."""


def imported_by(program: str, folder: Path, *arguments: str) -> set[str]:
    """The modules that a program names at its end, run beside `SERVICE` in an interpreter of its own."""
    (folder / "shop.py").write_text(SERVICE)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def too_early(modules: set[str]) -> list[str]:
    return sorted({name for name in LATER if name in modules})


def own(modules: set[str]) -> list[str]:
    return sorted(name for name in modules if name.partition(".")[0] == "micro_framework")


def test_a_service_imports_nothing_that_it_does_not_need(tmp_path: Path, rabbit: VHost) -> None:
    modules = imported_by(PROGRAM, tmp_path, rabbit.uri)
    assert "micro_framework.brokers.rabbitmq.consumer" in modules, "nothing was looked at"
    assert too_early(modules) == []
    assert len(own(modules)) <= OWN_AT_MOST, own(modules)


def test_neither_does_the_command(tmp_path: Path) -> None:
    modules = imported_by(COMMAND, tmp_path)
    assert "micro_framework.brokers.rabbitmq.consumer" in modules, "nothing was looked at"
    assert too_early(modules) == []


@pytest.mark.parametrize(
    ("asked", "module"),
    [
        ("'serializer': 'yaml'", "kombu.serialization"),
        ("'ENABLE_METRICS': True, 'METRICS': {'HOST': '127.0.0.1', 'PORT': 0}", "micro_framework.metrics.tallies"),
    ],
)
def test_what_is_asked_for_is_found(asked: str, module: str, tmp_path: Path, rabbit: VHost) -> None:
    program = PROGRAM.replace('{"AMQP_URI"', f'{{{asked}, "AMQP_URI"')
    assert module in imported_by(program, tmp_path, rabbit.uri)
