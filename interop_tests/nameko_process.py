"""Real Nameko beside the tests: services in a subprocess of their own environment, and a client driven by hand.

Nothing of Nameko is imported here. `Nameko.run` hosts services by ``nameko run``; `Nameko.driver` calls and
dispatches with Nameko's own standalone client, so that a test can show what Nameko does with no part of ours in it.
"""

import ast
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import Watchdog, free_port

__all__ = [
    "START_SECONDS",
    "Nameko",
    "NamekoDriver",
    "NamekoError",
    "NamekoHandlers",
    "NamekoPeer",
    "NamekoProcess",
    "consumers_of",
    "nameko_python",
]

ROOT = Path(__file__).resolve().parent.parent
SERVICES = Path(__file__).resolve().parent / "services"
PYTHON_VARIABLES = {"2.14.1": "MF_NAMEKO_2", "3.0.0rc11": "MF_NAMEKO_3", "extensions": "MF_NAMEKO_EXTENSIONS"}
START_SECONDS = 30.0
STOP_SECONDS = 10.0
CALL_SECONDS = 15.0
CONSUMING_DECORATORS = frozenset({"event_handler", "consume", "stable_broadcast"})
OUTPUT_TAIL = 8000


class NamekoError(Exception):
    """Nameko did not start, did not answer, or answered a driver's call with an error.

    Attributes:
        remote: What the driver saw: `type`, `text`, and of a `RemoteError` its `exc_type` and `value`; else empty.
    """

    def __init__(self, message: str, remote: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.remote = dict(remote or {})


def nameko_python(version: str) -> Path:
    """The Python of a Nameko version's environment, or of that of ``extensions``; made now, if `make` names none."""
    given = os.environ.get(PYTHON_VARIABLES[version])
    if given:
        return Path(given)
    command = [sys.executable, str(ROOT / "scripts" / "environments.py"), version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise NamekoError(f"no environment for Nameko {version}: {done.stderr}")
    return Path(done.stdout.strip())


def consumers_of(source: str, classes: Sequence[str] = ()) -> int:
    """How many queue consumers the services of a module start, counted in its text.

    Args:
        source: Python code.
        classes: Count these; none named: every class.
    """
    found = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return sum(consumers_of_class(node) for node in found if not classes or node.name in classes)


def consumers_of_class(service: ast.ClassDef) -> int:
    names = [
        decorator_name(decorator)
        for method in service.body
        if isinstance(method, ast.FunctionDef)
        for decorator in method.decorator_list
    ]
    return ("rpc" in names) + sum(name in CONSUMING_DECORATORS for name in names)


def decorator_name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.id if isinstance(called, ast.Name) else ""


class Nameko:
    """One version of Nameko on one virtual host. Stop everything it started with `close`.

    Args:
        version: ``2.14.1`` or ``3.0.0rc11``.
        vhost: Where its services and drivers connect.
    """

    def __init__(self, version: str, vhost: VHost) -> None:
        self.version = version
        self.vhost = vhost
        self.python = nameko_python(version)
        self.started: list[NamekoProcess | NamekoDriver] = []

    def run(
        self,
        *services: str,
        config: Mapping[str, object] | None = None,
        consumers: int | None = None,
        folder: Path = SERVICES,
    ) -> "NamekoProcess":
        """Host services and return once they consume.

        Args:
            services: ``module`` or ``module:Class``, as ``nameko run`` takes them; none: all of `nameko_services`.
            config: Added to, or replacing, the keys of the config file.
            consumers: Queue consumers to wait for; None: counted from the code (see `consumers_of`).
            folder: Where the modules are.
        """
        process = NamekoProcess(self, services or ("nameko_services",), config or {}, folder)
        self.started.append(process)
        process.start(consumers)
        return process

    def driver(self, timeout: float = CALL_SECONDS) -> "NamekoDriver":
        """A process that calls and dispatches with Nameko's standalone client.

        Args:
            timeout: Seconds an RPC call may take.
        """
        driver = NamekoDriver(self, timeout)
        self.started.append(driver)
        return driver

    def outputs(self) -> list[tuple[str, str]]:
        """What each process started here has written, with a title."""
        return [(started.title, started.output()) for started in self.started]

    def close(self) -> None:
        """End every process started here."""
        for started in reversed(self.started):
            started.close()


class OwnedProcess:
    """A subprocess with its output in a file, ended with this process at the latest."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.folder = Path(tempfile.mkdtemp(prefix="mf-nameko-"))
        self.watchdog = Watchdog(self.folder)
        self.process: subprocess.Popen[bytes] | None = None
        self._output = ""

    def spawn(self, command: Sequence[str], folder: Path, pipes: bool = False) -> subprocess.Popen[bytes]:
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "AMQP_URI")}
        variables |= {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
                start_new_session=True,
            )
        (self.folder / "process.pid").write_text(str(self.process.pid))
        return self.process

    def output(self) -> str:
        """The end of what it has written."""
        with contextlib.suppress(FileNotFoundError):
            self._output = (self.folder / "output").read_text(errors="replace")[-OUTPUT_TAIL:]
        return self._output

    def is_running(self) -> bool:
        """Whether it lives."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL it and whatever it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            (self.folder / "process.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Kill it if it still runs and remove its folder; its output can still be read."""
        self.kill()
        self.output()
        self.watchdog.close()


class NamekoProcess(OwnedProcess):
    """Services hosted by ``nameko run``; made by `Nameko.run`."""

    def __init__(self, nameko: Nameko, services: Sequence[str], config: Mapping[str, object], folder: Path) -> None:
        super().__init__(f"nameko {nameko.version} run {' '.join(services)}")
        self.nameko = nameko
        self.services = tuple(services)
        self.modules = folder
        self.web_port = free_port()
        self.config = self._default_config() | dict(config)

    def start(self, consumers: int | None = None) -> None:
        """Start it, and wait until it has that many consumers more than there were before."""
        vhost, expected = self.nameko.vhost, self._expected_consumers() if consumers is None else consumers
        before, connected_before = consuming(vhost), len(vhost.connections())
        config_file = self.folder / "config.yaml"
        config_file.write_text(json.dumps(self.config))
        nameko = str(self.nameko.python.with_name("nameko"))
        self.spawn([nameko, "run", "--config", str(config_file), *self.services], self.modules)

        def is_ready(_: VHost) -> bool:
            if not self.is_running():
                raise NamekoError(f"{self.title} ended at start:\n{self.output()}")
            if expected == 0:
                return len(vhost.connections()) > connected_before
            return consuming(vhost) >= before + expected

        vhost.wait_for(is_ready, START_SECONDS, f"{expected} consumers of {self.title}:\n{self.output()}")

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM it, SIGKILL it if it has not ended in time, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.kill()
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running():
            self.stop()

    def _default_config(self) -> dict[str, object]:
        handler = {"class": "logging.StreamHandler", "formatter": "plain"}
        plain = {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
        return {
            "AMQP_URI": self.nameko.vhost.uri,
            "WEB_SERVER_ADDRESS": f"127.0.0.1:{self.web_port}",
            "LOGGING": {
                "version": 1,
                "disable_existing_loggers": False,  # Nameko's own would fall silent
                "formatters": {"plain": plain},
                "handlers": {"console": handler},
                "root": {"level": "INFO", "handlers": ["console"]},
            },
        }

    def _expected_consumers(self) -> int:
        wanted: dict[str, list[str]] = {}
        for service in self.services:
            module, _, name = service.partition(":")
            wanted.setdefault(module, []).extend([name] if name else [])
        return sum(consumers_of((self.modules / f"{module}.py").read_text(), names) for module, names in wanted.items())


def consuming(vhost: VHost) -> int:
    """Consumers of all queues but RPC reply queues."""
    return sum(queue.consumers for queue in vhost.queues().values() if not queue.name.startswith("rpc.reply-"))


class NamekoDriver(OwnedProcess):
    """Nameko's standalone client in a process of its own, one request at a time; made by `Nameko.driver`."""

    def __init__(self, nameko: Nameko, timeout: float) -> None:
        super().__init__(f"nameko {nameko.version} driver")
        self.timeout = timeout
        self.answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        script = str(SERVICES / "nameko_driver.py")
        process = self.spawn([str(nameko.python), script, nameko.vhost.uri, str(timeout)], self.folder, pipes=True)
        assert process.stdin is not None
        assert process.stdout is not None
        self.requests, self.lines = process.stdin, process.stdout
        self.reader = threading.Thread(target=self._read, name="nameko-driver-reader", daemon=True)
        self.reader.start()
        self._answer(START_SECONDS)

    def call(
        self,
        service: str,
        method: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        context_data: Mapping[str, object] | None = None,
    ) -> Any:
        """The result of an RPC call.

        Raises:
            NamekoError: It failed; `remote` tells how.
        """
        return self._ask(
            do="call", service=service, method=method, args=args, kwargs=kwargs or {}, context=context_data
        )

    def fan_out(self, service: str, method: str, arguments: Sequence[Sequence[object]]) -> list[Any]:
        """The results of many calls, all sent before the first answer is waited for (``call_async``)."""
        results: list[Any] = self._ask(do="fan_out", service=service, method=method, arguments=arguments)
        return results

    def dispatch(self, service: str, event: str, payload: object) -> None:
        """Dispatch an event in a service's name; the exchange must exist, since this dispatcher declares nothing."""
        self._ask(do="dispatch", service=service, event=event, payload=payload)

    def log(self, service: str = "target") -> list[list[Any]]:
        """What the handlers of `nameko_services` received so far: ``[[handler, payload], ...]``."""
        log: list[list[Any]] = self.call(service, "log")
        return log

    def close(self) -> None:
        """End it."""
        super().close()
        self.reader.join()
        self.requests.close()
        self.lines.close()

    def _read(self) -> None:
        for line in self.lines:
            self.answers.put(line)
        self.answers.put(b"")

    def _ask(self, **request: object) -> Any:
        self.requests.write(json.dumps(request).encode() + b"\n")
        self.requests.flush()
        return self._answer(self.timeout + 5)

    def _answer(self, timeout: float) -> Any:
        try:
            line = self.answers.get(timeout=timeout)
        except queue.Empty:
            raise NamekoError(f"{self.title} did not answer in {timeout:g} s:\n{self.output()}") from None
        if not line:
            raise NamekoError(f"{self.title} ended:\n{self.output()}")
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise NamekoError(f"nameko's client raised {error['type']}: {error['text']}", error)
        return answer["result"]


@dataclass
class NamekoPeer:
    """Nameko's services, asked through its own client, and the broker between us."""

    driver: NamekoDriver
    vhost: VHost

    @property
    def config(self) -> dict[str, Any]:
        """That of a service of ours beside them."""
        return {"AMQP_URI": self.vhost.uri}


class NamekoHandlers(NamekoPeer):
    """The event handlers of Nameko's services."""

    def heard(self, marker: object) -> list[str]:
        """The handlers of `nameko_services` that got a payload, sorted."""
        self.vhost.wait_until_drained()
        return sorted(handler for handler, payload in self.driver.log() if payload == marker)
