"""Our services as users run them: in a process of their own, by the command line, to be killed and stopped."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from interop_tests.nameko_process import SERVICES, OwnedProcess
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import free_port

__all__ = ["CallScript", "OwnService", "Runs", "UnmodifiedService"]

START_SECONDS = 30.0
STOP_SECONDS = 30.0
CALL = """
import sys
from micro_framework.standalone import RPCClient
uri, service, method, *args = sys.argv[1:]
with RPCClient(uri, timeout=60) as client:
    print(client[service][method](int(args[0]), args[1]), flush=True)
"""


class OwnService(OwnedProcess):
    """Services of `own_services`, hosted by ``micro-framework run``; ended with this process at the latest.

    Args:
        vhost: Where they connect.
        services: The names of their classes.
        config: Further configuration.
    """

    module = "own_services"
    options: tuple[str, ...] = ()
    python = sys.executable

    def __init__(self, vhost: VHost, *services: str, **config: Any) -> None:
        super().__init__(f"micro-framework run {' '.join((*self.options, *services))}")
        self.vhost = vhost
        self.services = services
        self.config = {"AMQP_URI": vhost.uri, "WEB_SERVER_ADDRESS": f"127.0.0.1:{free_port()}", **config}

    def start(self) -> "OwnService":
        """Start it, and return once it says that it is ready."""
        (self.folder / "config.yaml").write_text(json.dumps(self.config))
        (self.folder / "output").unlink(missing_ok=True)
        specs = [f"{self.module}:{service}" for service in self.services]
        command = [self.python, "-m", "micro_framework", "run", *self.options, *specs]
        self.spawn([*command, "--config", str(self.folder / "config.yaml")], SERVICES)

        def is_ready(_: VHost) -> bool:
            assert self.is_running(), f"{self.title} ended at start:\n{self.output()}"
            return "ready: " in self.output()

        self.vhost.wait_for(is_ready, START_SECONDS, f"{self.title} to be ready:\n{self.output()}")
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def terminate(self) -> None:
        """SIGTERM it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.title} did not stop in {STOP_SECONDS:g} s:\n{self.output()}") from None

    def __enter__(self) -> "OwnService":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *failure: object) -> None:
        self.close()


class UnmodifiedService(OwnService):
    """Services written for Nameko, hosted by ``micro-framework run --nameko``."""

    module = "unmodified"
    options = ("--nameko",)


class CallScript(OwnedProcess):
    """A process that makes one call and prints what it got: ``method(number, folder)``."""

    def __init__(self, vhost: VHost, service: str, method: str, number: int, folder: Path) -> None:
        super().__init__(f"a script that calls {service}.{method}")
        self.spawn([sys.executable, "-c", CALL, vhost.uri, service, method, str(number), str(folder)], self.folder)

    def __enter__(self) -> "CallScript":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class Runs:
    """What the service `working` has noted in a folder: which call ran in which process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[tuple[int, int]]:
        """Each run: the call's number and the process id."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "runs").read_text().splitlines(keepends=True)
            return [(int(number), int(pid)) for number, pid in (line.split() for line in lines if line.endswith("\n"))]
        return []

    def of_process(self, pid: int) -> list[int]:
        """The calls that ran in a process."""
        return [number for number, where in self.all() if where == pid]

    def wait_for(self, count: int, seconds: float = 20.0) -> None:
        """Return once so many runs are noted."""
        until = time.monotonic() + seconds
        pause = threading.Event()
        while len(self.all()) < count:
            assert time.monotonic() < until, f"{len(self.all())} of {count} runs within {seconds:g} s"
            pause.wait(0.01)

    def let_go(self) -> None:
        """Let the calls end that hold."""
        (self.folder / "go").touch()
