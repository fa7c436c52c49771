"""From the birth of a worker process to its end: what it imports and logs, whom it obeys, and whom it survives."""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from micro_framework.exceptions import DeclarationError
from micro_framework.routes import CallbackRoute, Route
from tests.spawners.laboratory import ROOT, SECONDS, Desk, Telephone, desk, open_laboratory

# -- what it imports


def test_a_dotted_target_is_imported_in_worker_processes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "inside_tasks.py").write_text(
        textwrap.dedent("""
            import os

            class OrderUnknown(LookupError):
                pass

            class Tasks:
                def handle(self, payload):
                    return os.getpid()

            def find(payload):
                raise OrderUnknown(payload)

            def missed(payload, exception):
                assert type(exception) is OrderUnknown, exception
        """)
    )
    routes = [
        Route("inside_tasks.Tasks", Desk(), method_name="handle"),
        CallbackRoute("inside_tasks.find", Desk(), callback_function_path="inside_tasks.missed"),
    ]
    with open_laboratory(*routes) as runner:
        assert desk(runner, "Tasks.handle").result() != os.getpid()
        error = desk(runner, "inside_tasks.find").call(7).error
        assert (type(error).__module__, type(error).__name__) == ("inside_tasks", "OrderUnknown")
        assert isinstance(error, LookupError)
        assert "inside_tasks" not in sys.modules


def test_what_a_process_cannot_import_ends_the_start_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_up_module")
    exec("def handle(payload): ...", vars(module))  # noqa: S102 - a module that is nowhere but here
    monkeypatch.setitem(sys.modules, "made_up_module", module)
    with pytest.raises(DeclarationError) as caught, open_laboratory(Route(module.handle, Desk())):
        pass
    assert "a worker process cannot import what the service is made of: ModuleNotFoundError: No module named" in str(
        caught.value
    )


# -- services in processes of their own

SERVICE = """
    import logging, os, sys, time
    from micro_framework.dependencies import Config, Logger
    from micro_framework.entrypoints import TimeEntrypoint
    from tests.spawners.laboratory import instruction, ring

    logging.getLogger("service").debug("imported")

    class Service:
        name = "service"
        config = Config()
        log = Logger()

        @TimeEntrypoint(3600, eager=True)
        def work(self):
            self.log.info("working")
            logging.getLogger("service").debug("too quiet")
            answer = instruction({"do": os.environ.get("DO", "ring"), "number": os.environ["NUMBER"]})
            print("worked", answer, flush=True)
"""

UNGUARDED = """
    from micro_framework.runner import Runner

    Runner([Service], {"WORKER_MODE": "process", "MAX_WORKERS": 1}).start()
    print("returned", flush=True)
"""

GUARDED = """
    from micro_framework.runner import Runner

    if __name__ == "__main__":
        logging.basicConfig(level=logging.INFO, format="%(processName)s: %(message)s")
        Runner([Service], {"WORKER_MODE": "process", "MAX_WORKERS": 1}).start()
        print("returned", flush=True)
"""


class Process:
    """A service in a process and a group of its own; its output can be waited for."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": ROOT, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.errors: list[str] = []
        self.readers = [
            threading.Thread(target=self.read, args=(self.process.stdout, self.lines.put)),
            threading.Thread(target=self.read, args=(self.process.stderr, self.errors.append)),
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(stream: Iterator[str], take: Callable[[str], object]) -> None:
        for line in stream:
            take(line.rstrip("\n"))

    def signal_group(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, list[str]]:
        """Its exit code, and the lines that were not yet looked at."""
        code = self.process.wait(SECONDS)
        for reader in self.readers:
            reader.join(SECONDS)
        left = []
        while not self.lines.empty():
            left.append(self.lines.get())
        return code, left

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        for reader in self.readers:
            reader.join(SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path, telephone: Telephone) -> Iterator[Start]:
    started: list[Process] = []

    def start(*arguments: str, ending: str = "", **variables: str) -> Process:
        (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE) + textwrap.dedent(ending))
        started.append(Process(tmp_path, *arguments, NUMBER=telephone.number, **variables))
        return started[-1]

    yield start
    for process in started:
        process.close()


def gone(pid: int) -> bool:
    """Whether a process ends within the time; what is left of it until somebody asks how does not count."""
    try:
        psutil.Process(pid).wait(SECONDS)
    except psutil.TimeoutExpired:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        pass
    return True


@pytest.mark.parametrize("ending", [UNGUARDED, GUARDED], ids=["unguarded", "guarded"])
@pytest.mark.parametrize("arguments", [["service.py"], ["-m", "service"]], ids=["script", "module"])
def test_a_service_of_the_main_module_runs(
    start: Start, telephone: Telephone, ending: str, arguments: list[str]
) -> None:
    process = start(*arguments, ending=ending)
    pid, line = telephone.wait_pid()
    assert psutil.Process(pid).ppid() == process.process.pid
    line.sendall(b"well")
    assert process.lines.get(timeout=SECONDS) == "worked well"
    process.process.send_signal(signal.SIGTERM)
    assert process.end() == (0, ["returned"]), process.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_lets_running_calls_finish(
    start: Start, telephone: Telephone, number: signal.Signals
) -> None:
    process = start("service.py", ending=GUARDED)
    pid, line = telephone.wait_pid()
    process.signal_group(number)
    line.sendall(b"in peace")
    assert process.lines.get(timeout=SECONDS) == "worked in peace"
    assert process.end() == (0, ["returned"]), process.errors
    assert gone(pid)
    assert not any("Traceback" in line for line in process.errors)


def test_a_second_signal_ends_all_at_once(start: Start, telephone: Telephone) -> None:
    process = start("service.py", ending=GUARDED, DO="spin")
    pid, line = telephone.wait_pid()
    line.close()
    process.signal_group(signal.SIGTERM)
    never = threading.Event()
    # Only then: signals that are pending together arrive in the order of their numbers.
    assert any("stopping" in "".join(process.errors) or never.wait(0.02) for _ in range(int(SECONDS / 0.02)))
    process.signal_group(signal.SIGINT)
    assert process.process.wait(SECONDS) == 128 + signal.SIGINT
    assert gone(pid)


@pytest.mark.parametrize("busy", ["ring", "spin", "hold the interpreter"])
def test_no_process_survives_its_service(start: Start, telephone: Telephone, busy: str) -> None:
    process = start("service.py", ending=GUARDED, DO=busy)
    pid, line = telephone.wait_pid()
    if busy != "ring":
        line.close()
    process.process.kill()
    process.process.wait(SECONDS)
    assert gone(pid)


# -- logging


def test_a_process_logs_like_its_script(start: Start, telephone: Telephone) -> None:
    process = start("service.py", ending=GUARDED)
    _, line = telephone.wait_pid()
    line.sendall(b"well")
    assert process.lines.get(timeout=SECONDS) == "worked well"
    process.process.send_signal(signal.SIGTERM)
    process.end()
    assert "mf-process-default-0: working" in process.errors, process.errors
    assert not any("too quiet" in line for line in process.errors)


def test_a_process_logs_like_the_command_line(start: Start, telephone: Telephone, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{WORKER_MODE: process, MAX_WORKERS: 1}")
    process = start("-m", "micro_framework", "run", "service", "--config", "config.yaml")
    _, line = telephone.wait_pid()
    line.sendall(b"well")
    assert process.lines.get(timeout=SECONDS) == "worked well"
    process.process.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0
    lines = [json.loads(line) for line in process.errors]
    (working,) = [line for line in lines if line["message"] == "working"]
    assert (working["logger"], working["level"], working["method"]) == ("service.work", "INFO", "work")
    assert not any(line["message"] == "too quiet" for line in lines)


def test_a_process_logs_as_configured(start: Start, telephone: Telephone, tmp_path: Path) -> None:
    config = {
        "WORKER_MODE": "process",
        "MAX_WORKERS": 1,
        "LOGGING": {
            "formatters": {"own": {"format": "own %(message)s"}},
            "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "own"}},
            "root": {"level": "DEBUG", "handlers": ["err"]},
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    process = start("-m", "micro_framework", "run", "service", "--config", "config.yaml")
    _, line = telephone.wait_pid()
    line.sendall(b"well")
    assert process.lines.get(timeout=SECONDS) == "worked well"
    process.process.send_signal(signal.SIGTERM)
    process.end()
    assert process.errors.count("own imported") == 2, "in the service and in the process"
    assert {"own working", "own too quiet"} <= set(process.errors)


def test_a_crash_says_where_it_happened(start: Start, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{WORKER_MODE: process, MAX_WORKERS: 1}")
    process = start("-m", "micro_framework", "run", "service", "--config", "config.yaml", DO="segfault")
    never = threading.Event()
    assert any("WorkerDied" in "".join(process.errors) or never.wait(0.02) for _ in range(int(SECONDS / 0.02)))
    process.process.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0
    assert "Fatal Python error: Segmentation fault" in process.errors
    assert any(" in work" in line and "service.py" in line for line in process.errors)
