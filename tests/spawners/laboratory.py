"""Experiments on worker processes: services that can be imported, driven by a desk in the test instead of a broker.

A `Desk` is an entrypoint: `desk(runner, "Laboratory.run").call(payload)` has a call run and returns its outcome.
A `Telephone` lets a target that runs in another process tell the test something, and wait for its answer.
"""

import asyncio
import ctypes
import multiprocessing
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micro_framework.calls import Attempt, Call, CallIdentity, Outcome
from micro_framework.dependencies import CallContext, Config, Dependency, Logger, RunningCall
from micro_framework.entrypoints import Entrypoint
from micro_framework.retry import BackOffData
from micro_framework.routes import route
from micro_framework.runner import Runner
from micro_framework.translators import MessageTranslator
from micro_framework.workers import Worker

SECONDS = 30.0
ROOT = str(Path(__file__).resolve().parents[2])


def eventually(condition: Callable[[], object]) -> bool:
    """Whether something becomes so, looked at again and again for at most `SECONDS`."""
    never = threading.Event()
    return any(condition() or never.wait(0.01) for _ in range(int(SECONDS / 0.01)))


class Desk(Entrypoint):
    """Calls its target when the test says so, and keeps what becomes of it."""

    arguments = ("payload",)
    retryable = True

    def setup(self) -> None:
        self.settled: queue.SimpleQueue[tuple[Any, Outcome]] = queue.SimpleQueue()
        self.handed_back: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.retried: queue.SimpleQueue[tuple[Any, Attempt]] = queue.SimpleQueue()

    def to_call(self, item: Any) -> Call:
        call_id = f"{self.route.service}.{self.route.method}.1"
        return Call(CallIdentity(self.route.service, self.route.method, (call_id,)), (item,), {}, {"user_id": 7})

    def settle(self, item: Any, outcome: Outcome) -> None:
        self.settled.put((item, outcome))

    def hand_back(self, item: Any) -> None:
        self.handed_back.put(item)

    def retry(self, item: Any, attempt: Attempt, delay: int) -> None:
        self.retried.put((item, attempt))

    def call(self, payload: Any = None) -> Outcome:
        """Have one call run; how it ended."""
        self.route.submit(payload)
        return self.settled.get(timeout=SECONDS)[1]

    def result(self, payload: Any = None) -> Any:
        """Have one call run; what it returned."""
        outcome = self.call(payload)
        if outcome.error is not None:
            raise outcome.error
        return outcome.result


class Log(Desk):
    """A desk that needs no results, like an event's."""

    result_needed = False


def desk(runner: Runner, label: str) -> Desk:
    """The desk of a target."""
    (found,) = [bound.entrypoint for bound in runner.assembly.routes if bound.label == label]
    assert isinstance(found, Desk)
    return found


class Telephone:
    """A line to one target at a time: it calls with `ring`, waits, and is answered."""

    def __init__(self, folder: Path) -> None:
        self.number = str(folder / "telephone")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.number)
        self.socket.listen(16)
        self.socket.settimeout(SECONDS)
        self.lines: list[socket.socket] = []

    def wait(self) -> tuple[str, socket.socket]:
        """Wait until somebody rings; what they say, and the line to answer on."""
        line, _ = self.socket.accept()
        line.settimeout(SECONDS)
        self.lines.append(line)
        return line.makefile().readline().strip(), line

    def wait_pid(self) -> tuple[int, socket.socket]:
        """As `wait`, for those who say the number of their process."""
        said, line = self.wait()
        return int(said), line

    def close(self) -> None:
        for line in (self.socket, *self.lines):
            line.close()


def ring(number: str, text: object) -> str:
    """Say something to the test, and wait for the answer; empty when the test hangs up."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(number)
        line.sendall(f"{text}\n".encode())
        return line.recv(100).decode()


class Unloadable(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Seen(Worker):
    """A worker class that adds to the result."""

    def run(self) -> Outcome:
        outcome = super().run()
        return Outcome(("seen", outcome.result), outcome.error)


class Wrapped:
    """What a translator makes of a payload."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class Wrap(MessageTranslator):
    def translate_message(self, message: Any) -> Any:
        return threading.Lock() if message == "unsendable" else Wrapped(message)


class Unbindable(Dependency[int]):
    """Raises where nobody expects it, in worker processes only."""

    def is_ready(self) -> bool:
        raise RuntimeError("neither ready nor not")

    def get_dependency(self, worker: RunningCall) -> int:
        return 1


class Journal(Dependency[list[str]]):
    """Writes its hooks to a file, with the number of the process they run in."""

    def write(self, what: str) -> None:
        path = Path(self.host.settings.raw["JOURNAL"])
        with path.open("a") as file:
            file.write(f"{os.getpid()} {what}\n")

    def setup(self) -> None:
        self.write("setup")

    def start(self) -> None:
        self.write("start")

    def stop(self) -> None:
        self.write("stop")

    def get_dependency(self, worker: RunningCall) -> list[str]:
        return Path(self.host.settings.raw["JOURNAL"]).read_text().splitlines()


def instruction(payload: Mapping[str, Any]) -> Any:
    """Do what a payload says."""
    match payload["do"]:
        case "pid":
            return os.getpid()
        case "name":
            return threading.current_thread().name
        case "return":
            return payload["value"]
        case "lock":
            return threading.Lock()
        case "exit at once":
            os._exit(payload["code"])
        case "exit":
            sys.exit(payload["code"])
        case "segfault":
            ctypes.string_at(0)
        case "raise unloadable":
            raise Unloadable("does not unpickle", 5)
        case "ring":
            return ring(payload["number"], os.getpid())
        case "spin":
            ring(payload["number"], os.getpid())
            while True:
                pass
        case "hold the interpreter":
            ring(payload["number"], os.getpid())
            return ctypes.PyDLL(None).sleep(3600)
        case "sleep":
            time.sleep(payload["seconds"])
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "close everything":
            os.closerange(3, 1000)
        case "fork":
            return forked()
        case other:
            raise ValueError(other)
    return None


def forked() -> int | None:
    """Fork a process, as multiprocessing does, and end it as it does; how it ended."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600])
    process.start()
    process.terminate()
    process.join(SECONDS)
    return process.exitcode


class Laboratory:
    """One method that does what it is told, and some more."""

    name = "laboratory"
    context = CallContext()
    config = Config()
    retry = BackOffData()
    log = Logger()

    @Desk()
    def run(self, payload: Any) -> Any:
        return instruction(payload)

    @Log()
    def note(self, payload: Any) -> Any:
        return instruction(payload)

    @Desk()
    def dependencies(self, payload: Any) -> Any:
        self.log.warning("in the laboratory")
        return self.context.data["user_id"], self.context.call_id, self.config["MINE"], self.retry.retry_count

    @Desk()
    async def later(self, payload: Any) -> Any:
        await asyncio.sleep(0)
        return payload

    @route(Desk(), worker_class=Seen)
    def seen(self, payload: Any) -> Any:
        return payload

    @route(Desk(), translators=[Wrap()], on_failure="failed")
    def translated(self, payload: Any) -> Any:
        if isinstance(payload, Wrapped) and payload.payload == "fine":
            return payload.payload
        self.context.data["added"] = 1
        raise Unloadable("always", 5)

    def failed(self, payload: Any, exception: BaseException) -> None:
        told = (type(exception) is Unloadable, payload.payload, self.context.data.get("added"))
        ring(self.config["NUMBER"], told)


class Journaled:
    """Its dependency writes a journal."""

    name = "journaled"
    journal = Journal()

    @Desk()
    def read(self, payload: Any) -> Any:
        return self.journal


class Unready:
    name = "unready"
    unbindable = Unbindable()

    @Desk()
    def run(self, payload: Any) -> None: ...


@contextmanager
def open_laboratory(*services: Any, **config: Any) -> Iterator[Runner]:
    """Services with one worker process."""
    given = {"WORKER_MODE": "process", "MAX_WORKERS": 1, "SERVICE_NAME": "laboratory", "MINE": 5, **config}
    with Runner(services or [Laboratory], given) as runner:
        yield runner
