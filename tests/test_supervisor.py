"""Several copies of a service: real processes, real RabbitMQ, real signals."""

import itertools
import json
import os
import re
import signal
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from micro_framework.testing.broker_state import VHost
from tests.outside import Outside
from tests.processes import SECONDS, ServiceProcess, Watched

pytestmark = pytest.mark.timeout(180)

STOP = [signal.SIGTERM, signal.SIGINT]

SHOP = """
    import multiprocessing, os
    from micro_framework.amqp.entrypoints import EventListener
    from micro_framework.entrypoints import TimeEntrypoint

    NAME = multiprocessing.current_process().name

    def say(*words):
        os.write(1, (" ".join(map(str, (NAME, *words))) + "\\n").encode())  # whole, whatever other threads say

    class Shop:
        name = "shop"

        @EventListener("web", "sold")
        def sold(self, number):
            say("sold", number)

        @EventListener("web", "gated")
        def gated(self, number):
            say("begins", number)
            open(f"gate-{number}").read()
            say("ends", number)

        @EventListener("web", "heard", handler_type="broadcast")
        def heard(self, number):
            say("heard", number)

        @EventListener("web", "spin")
        def spin(self, number):
            say("spins")
            while True:
                pass

        @EventListener("web", "hold")
        def hold(self, number):
            say("holds")
            sum(range(10 ** 15))  # in C: nothing else of this process runs until it ends

    class Ticking:
        name = "ticking"

        @TimeEntrypoint(interval=0.05)
        def tick(self):
            say("ticks")
"""

GATED, SOLD = "evt-web-gated--shop.gated", "evt-web-sold--shop.sold"

Start = Callable[..., ServiceProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``micro-framework run ...``, or a script; what still runs at the end is killed."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    running: list[ServiceProcess] = []

    def start(*specs: str, script: str | None = None, **config: object) -> ServiceProcess:
        (tmp_path / "config.json").write_text(json.dumps({"PROCESSES": 2, **config}))
        arguments = ["-m", "micro_framework", "run", *specs, "--config", "config.json"]
        if script is not None:
            (tmp_path / "script.py").write_text(textwrap.dedent(script))
            arguments = ["script.py"]
        running.append(ServiceProcess(tmp_path, arguments))
        return running[-1]

    yield start
    for process in running:
        process.close()


@pytest.fixture
def outside(rabbit: VHost) -> Iterator[Outside]:
    outside = Outside(rabbit.uri)
    yield outside
    outside.close()


@pytest.fixture
def shop(start: Start, rabbit: VHost) -> ServiceProcess:
    """Two copies of the shop, both ready."""
    process = start("shop:Shop", AMQP_URI=rabbit.uri, MAX_WORKERS=3)
    process.errors.wait_for('"ready: ')
    return process


@pytest.fixture
def watch() -> Iterator[Callable[[int], Watched]]:
    watched: list[Watched] = []

    def watch(pid: int) -> Watched:
        watched.append(Watched(pid))
        return watched[-1]

    yield watch
    for each in watched:
        each.close()


@pytest.fixture
def open_gate(tmp_path: Path) -> Callable[[int], None]:
    """Four calls of `gated` wait, each until it is let go on."""
    for number in range(4):
        os.mkfifo(tmp_path / f"gate-{number}")
    # It waits for the call to open the other end.
    return lambda number: os.close(os.open(tmp_path / f"gate-{number}", os.O_WRONLY))


def by_copy(lines: list[str], word: str) -> dict[str, list[str]]:
    """What the copies said after a word, by their names."""
    said: dict[str, list[str]] = {}
    for name, *words in (line.split() for line in lines):
        if words[0] == word:
            said.setdefault(name, []).append(" ".join(words[1:]))
    return said


def all_said(lines: list[str], word: str) -> list[int]:
    """The numbers that any copy said after a word."""
    return [int(number) for numbers in by_copy(lines, word).values() for number in numbers]


def errors_told(process: ServiceProcess) -> list[str]:
    """The command's own messages."""
    return [line for line in process.errors.lines if line.startswith("Error: ")]


ANSWERING = """
import logging, threading
from micro_framework import supervisor
from micro_framework.config import Settings

def main(copy):
    done = threading.Event()
    copy.serving(done.set)
    copy.started(0, lambda: None)
    copy.ready("nothing")
    done.wait()

if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    supervised = supervisor.Supervisor(main, (), Settings(processes=2))
    run = supervised.run
"""


def answering(*lines: str) -> str:
    """A script with copies that do nothing but answer; the lines, the first one last, say how they are run."""
    return ANSWERING + "".join(f"    {line}\n" for line in reversed(lines))


# -- running


def test_both_copies_take_part_and_a_broadcast_is_heard_by_each(shop: ServiceProcess, outside: Outside) -> None:
    outside.event("web", "heard", 7)
    shop.output.wait_until(lambda lines: by_copy(lines, "heard") == {"copy-1": ["7"], "copy-2": ["7"]})
    numbers = itertools.count()
    while len(by_copy(shop.output.lines, "sold")) < 2:
        number = next(numbers)
        outside.event("web", "sold", number)
        shop.output.wait_for(f" sold {number}$")
    shop.send(signal.SIGTERM)
    assert shop.code() == 0
    assert Counter(all_said(shop.output.lines, "sold")) == Counter(range(next(numbers)))
    assert len(by_copy(shop.output.lines, "heard")) == len(all_said(shop.output.lines, "heard")) == 2


def test_one_line_says_that_all_are_ready_and_every_line_which_process_wrote_it(shop: ServiceProcess) -> None:
    shop.send(signal.SIGTERM)
    assert shop.code() == 0
    log = shop.log()
    assert [(entry["process"], entry["message"]) for entry in log if entry["message"].startswith("ready:")] == [
        ("supervisor", "ready: shop (5 targets) in 2 copies")
    ]
    assert {entry["process"] for entry in log} == {"supervisor", "copy-1", "copy-2"}
    assert len(log) == len(shop.errors.lines), "something was written that is no log"


def test_the_logging_of_the_configuration_is_that_of_every_process(start: Start, rabbit: VHost) -> None:
    logging = {
        "formatters": {"mine": {"format": "%(processName)s|%(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "mine"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
    }
    process = start("shop:Shop", AMQP_URI=rabbit.uri, LOGGING=logging)
    process.errors.wait_for(r"^supervisor\|ready: shop")
    process.send(signal.SIGTERM)
    assert process.code() == 0
    assert {line.split("|")[0] for line in process.errors.lines} == {"supervisor", "copy-1", "copy-2"}


# -- a copy dies


@pytest.mark.fault
def test_a_copy_killed_under_load_is_started_again_and_nothing_is_lost(
    shop: ServiceProcess, rabbit: VHost, outside: Outside, soak_size: Callable[[int], int]
) -> None:
    count, prefetch = soak_size(600), 3
    killed = shop.copies()["copy-1"]
    for number in range(count):
        outside.event("web", "sold", number)
        if number == count // 3:
            shop.output.wait_for("^copy-1 sold")
            os.kill(killed, signal.SIGKILL)
    (line,) = shop.errors.wait_for(rf"copy-1 \(pid {killed}\) was killed by SIGKILL \(signal 9: .*\) after")
    assert "it is started again in" in line
    shop.errors.wait_for("copy-1 .* is ready in the place of one that died")
    assert shop.copies()["copy-1"] != killed
    shop.output.wait_until(lambda lines: len(set(all_said(lines, "sold"))) == count, f"{count} sales")
    rabbit.wait_until_drained(SOLD, timeout=SECONDS)
    shop.send(signal.SIGTERM)
    assert shop.code() == 0
    times = Counter(all_said(shop.output.lines, "sold"))
    assert set(times) == set(range(count))
    assert sum(times.values()) <= count + prefetch, "only what the killed copy held may run again"


def test_a_copy_that_is_stopped_alone_ends_gracefully_and_is_started_again(
    shop: ServiceProcess, outside: Outside, open_gate: Callable[[int], None]
) -> None:
    outside.event("web", "gated", 0)
    (line,) = shop.output.wait_for("begins 0")
    name = line.split()[0]
    first = shop.copies()[name]
    os.kill(first, signal.SIGTERM)
    shop.errors.wait_for(rf"micro_framework.runner.*stopping; running.*{name}")
    open_gate(0)
    shop.output.wait_for(f"{name} ends 0")
    shop.errors.wait_for(rf"{name} \(pid {first}\) ended with exit code 0 after")
    shop.errors.wait_for(f"{name} .* is ready in the place of one that died")
    shop.send(signal.SIGTERM)
    assert shop.code() == 0


ignoring_children = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"


def test_copies_are_looked_after_where_the_ends_of_children_are_ignored(start: Start) -> None:
    process = start(script=answering("run()", ignoring_children))
    process.errors.wait_for("ready: nothing in 2 copies")
    os.kill(process.copies()["copy-1"], signal.SIGKILL)
    process.errors.wait_for(r"copy-1 \(pid \d+\) was killed by SIGKILL")
    process.errors.wait_for("copy-1 .* is ready in the place of one that died")
    process.send(signal.SIGTERM)
    assert process.code() == 0


def test_copies_are_looked_after_where_the_system_tells_others_how_they_end(start: Start) -> None:
    # Outside of the main thread nothing can be changed about SIGCHLD.
    elsewhere = "thread = threading.Thread(target=run); thread.start(); thread.join()"
    process = start(script=answering(elsewhere, ignoring_children))
    process.errors.wait_for("ready: nothing in 2 copies")
    os.kill(process.copies()["copy-1"], signal.SIGKILL)
    process.errors.wait_for(r"copy-1 \(pid \d+\) ended with exit code 255")
    process.errors.wait_for("copy-1 .* is ready in the place of one that died")


# -- the supervisor dies


def test_no_copy_outlives_a_killed_supervisor_however_busy_it_is(
    shop: ServiceProcess, rabbit: VHost, outside: Outside, watch: Callable[[int], Watched]
) -> None:
    copies = [watch(pid) for pid in shop.copies().values()]
    for number in (1, 2):  # one after the other, so each gets one
        outside.event("web", "spin", number)
        shop.output.wait_for("spins", number)
    outside.event("web", "hold", 1)
    shop.output.wait_for("holds")
    shop.send(signal.SIGKILL)
    assert [copy.ended() for copy in copies] == [True, True]
    assert set(by_copy(shop.output.lines, "spins")) == {"copy-1", "copy-2"}
    back = [("evt-web-hold--shop.hold", 1), ("evt-web-spin--shop.spin", 2)]
    rabbit.wait_for(
        lambda vhost: all(vhost.queue(name).ready == count for name, count in back), SECONDS, "the calls to come back"
    )


UNTIED = """
    import ctypes, threading
    from micro_framework.config import Settings
    from micro_framework.supervisor import Supervisor

    def main(copy):
        assert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0, "the kernel forgets what it was asked for"
        print("untied", flush=True)
        threading.Event().wait()

    if __name__ == "__main__":
        Supervisor(main, (), Settings(processes=2)).run()
"""


def test_where_the_kernel_does_not_end_the_copies_they_end_themselves(
    start: Start, watch: Callable[[int], Watched]
) -> None:
    process = start(script="import logging, sys; logging.basicConfig(level='INFO')\n" + textwrap.dedent(UNTIED))
    process.output.wait_for("untied", 2)
    copies = [watch(pid) for pid in process.copies().values()]
    process.send(signal.SIGKILL)
    assert [copy.ended() for copy in copies] == [True, True]


# -- stopping


@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("whom", ["the supervisor", "every process"])
def test_running_calls_finish_once_and_it_ends_cleanly(
    shop: ServiceProcess,
    rabbit: VHost,
    outside: Outside,
    open_gate: Callable[[int], None],
    number: signal.Signals,
    whom: str,
) -> None:
    for each in range(4):
        outside.event("web", "gated", each)
    shop.output.wait_for("begins", 4)
    (shop.send if whom == "the supervisor" else shop.send_to_all)(number)
    shop.errors.wait_for("stopping; running calls have", 3)
    for each in range(4):
        open_gate(each)
    assert shop.code() == 0
    assert Counter(all_said(shop.output.lines, "begins")) == Counter(range(4))
    assert Counter(all_said(shop.output.lines, "ends")) == Counter(range(4))
    assert rabbit.depth(GATED) == 0


@pytest.mark.parametrize("second", STOP)
def test_a_second_signal_ends_everything_at_once(
    shop: ServiceProcess,
    rabbit: VHost,
    outside: Outside,
    open_gate: Callable[[int], None],
    watch: Callable[[int], Watched],
    second: signal.Signals,
) -> None:
    copies = [watch(pid) for pid in shop.copies().values()]
    outside.event("web", "gated", 0)
    shop.output.wait_for("begins")
    shop.send(signal.SIGTERM if second == signal.SIGINT else signal.SIGINT)
    shop.errors.wait_for("stopping; running calls have", 3)
    shop.send(second)
    assert shop.code() == 128 + second
    assert [copy.ended() for copy in copies] == [True, True]
    assert shop.errors.lines[-1] == "second signal: ending at once; running calls are delivered again"
    rabbit.wait_for(lambda vhost: vhost.queue(GATED).ready == 1, SECONDS, "the call to come back")


def test_abandoned_calls_are_told_once_and_are_exit_code_1(
    start: Start, rabbit: VHost, outside: Outside, open_gate: Callable[[int], None]
) -> None:
    process = start("shop:Shop", AMQP_URI=rabbit.uri, MAX_WORKERS=1, SHUTDOWN_TIMEOUT=0.1)
    process.errors.wait_for('"ready: ')
    for number in range(2):
        outside.event("web", "gated", number)
    process.output.wait_for("begins", 2)
    process.send(signal.SIGTERM)
    assert process.code() == 1
    (told,) = errors_told(process)
    assert told.startswith(
        "Error: 2 running calls did not finish within SHUTDOWN_TIMEOUT (0.1 s) and had to be abandoned"
    )
    assert told.endswith("Shop.gated, Shop.gated")


def test_copies_that_are_still_importing_end_at_once(start: Start, rabbit: VHost, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    (tmp_path / "slow.py").write_text("print('importing', flush=True)\nopen('never').read()\n")
    process = start("slow", AMQP_URI=rabbit.uri)
    process.output.wait_for("importing", 2)
    process.send(signal.SIGTERM)
    assert process.code() == 0


STUCK = """
    import threading
    from micro_framework import supervisor
    from micro_framework.config import Settings

    def main(copy):
        copy.serving(lambda: None)
        print("deaf", flush=True)
        threading.Event().wait()

    if __name__ == "__main__":
        supervisor.STOP_MARGIN = 0.2
        supervisor.Supervisor(main, (), Settings(processes=2, shutdown_timeout=0.2)).run()
"""


def test_a_copy_that_does_not_stop_is_killed_and_told_of(start: Start) -> None:
    process = start(script=STUCK)
    process.output.wait_for("deaf", 2)
    process.send(signal.SIGTERM)
    assert process.code() == 1
    (told,) = process.errors.wait_for("CopyFailed: ")
    how = r"copy-\d \(pid \d+\) was killed by SIGKILL \(signal 9: .*?\) after .*? before it had stopped cleanly"
    assert len(re.findall(how, told)) == 2


# -- what cannot start


FILES = {
    "unset.py": """
        from micro_framework.dependencies import Dependency
        from micro_framework.entrypoints import TimeEntrypoint
        class Failing(Dependency[str]):
            def setup(self): raise RuntimeError("the disk is full")
        class Service:
            name = "service"
            failing = Failing()
            @TimeEntrypoint(interval=3600)
            def tick(self): pass
    """,
    "undeclared.py": """
        from micro_framework.entrypoints import TimeEntrypoint
        class Service:
            name = "service"
            @TimeEntrypoint(interval=-1)
            def tick(self): pass
    """,
    "broken.py": "import no_such_library",
    "leaving.py": "import sys; sys.exit(7)",
    "dying.py": "import os; os._exit(7)",
    "readymade.py": """
        from micro_framework.runner import Runner
        from shop import Shop
        runner = Runner([Shop], {"PROCESSES": 2, "AMQP_URI": "%s"})
    """,
}


@pytest.fixture
def with_files(tmp_path: Path, rabbit: VHost) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text).replace("%s", rabbit.uri))


@pytest.mark.usefixtures("with_files")
@pytest.mark.parametrize(
    ("specs", "code", "sign"),
    [
        (["unset"], 1, "Failing: setup failed: RuntimeError: the disk is full"),
        (["undeclared"], 1, "Service.tick: TimeEntrypoint needs interval="),
        (["shp"], 1, "did you mean 'shop'?"),
        (["broken"], 1, "No module named 'no_such_library'"),
        (["leaving"], 1, "it called sys.exit(7)"),
        (["shop.py"], 2, "did you mean 'shop'?"),
        (["readymade"], 2, "leave out --config"),
    ],
)
def test_what_another_start_would_not_change_ends_the_whole_with_one_message(
    start: Start, specs: list[str], code: int, sign: str, rabbit: VHost
) -> None:
    process = start(*specs, AMQP_URI=rabbit.uri)
    assert process.code() == code
    (told,) = errors_told(process)
    assert sign in told
    assert "Traceback" not in "\n".join(process.errors.lines)
    assert not [line for line in process.errors.lines if "started again" in line]


def test_a_broker_that_refuses_ends_the_whole_with_one_message(start: Start, rabbit: VHost) -> None:
    process = start("shop:Shop", AMQP_URI=rabbit.uri + "-no-such-vhost")
    assert process.code() == 1
    (told,) = errors_told(process)
    assert "-no-such-vhost" in told


def test_a_wrong_configuration_is_told_before_any_copy_starts(start: Start) -> None:
    process = start("shop", AMQP_URI="amqp://localhost", MAX_WORKERS="many")
    assert process.code() == 1
    assert "MAX_WORKERS is 'many'" in "\n".join(process.errors.lines)
    assert process.copies() == {}


def test_the_embedded_broker_is_refused_by_name(start: Start) -> None:
    process = start("shop", AMQP_URI="memory://")
    assert process.code() == 1
    (told,) = errors_told(process)
    assert "PROCESSES is 2 and AMQP_URI is the embedded broker" in told


@pytest.mark.usefixtures("with_files")
def test_copies_that_die_whenever_they_start_end_the_whole_with_one_message(start: Start, rabbit: VHost) -> None:
    process = start("dying", AMQP_URI=rabbit.uri)
    assert process.code() == 1
    (told,) = errors_told(process)
    assert re.search(
        r"copy-\d \(pid \d+\) ended with exit code 7 after .* s; that is 5 times in a row",
        told,
    )


@pytest.mark.usefixtures("with_files")
def test_a_module_with_a_runner_of_its_own_is_run_in_copies(start: Start, tmp_path: Path) -> None:
    process = ServiceProcess(tmp_path, ["-m", "micro_framework", "run", "readymade"])
    try:
        process.errors.wait_for('"ready: shop .* in 2 copies')
        process.send(signal.SIGTERM)
        assert process.code() == 0
        assert {entry["process"] for entry in process.log()} == {"supervisor", "copy-1", "copy-2"}
    finally:
        process.close()


# -- what exists once


def test_timers_run_in_one_copy_and_move_when_it_dies(start: Start) -> None:
    process = start("shop:Ticking")
    process.errors.wait_for('"ready: ')
    process.output.wait_for("ticks", 5)
    first = next(iter(by_copy(process.output.lines, "ticks")))
    os.kill(process.copies()[first], signal.SIGKILL)
    second = "copy-2" if first == "copy-1" else "copy-1"
    process.output.wait_for(f"{second} ticks", 3)
    # Where it died is no reason to move back.
    process.errors.wait_for(f"{first} .* is ready in the place of one that died")
    ticked = len(process.output.lines)
    process.output.wait_until(lambda lines: len(lines) > ticked + 5)
    process.send(signal.SIGTERM)
    assert process.code() == 0
    order = [name for name, _ in itertools.groupby(line.split()[0] for line in process.output.lines)]
    assert order == [first, second]


# -- copies that say nothing


def test_a_copy_that_does_not_answer_is_told_of_and_left_alone(start: Start) -> None:
    sooner = "supervisor.ASK_SECONDS, supervisor.SILENT_AFTER, supervisor.LONGEST_WAIT = 0.05, 1.0, 0.05"
    process = start(script=answering("run()", sooner))
    process.errors.wait_for("ready: nothing in 2 copies")
    pid = process.copies()["copy-1"]
    os.kill(pid, signal.SIGSTOP)
    process.errors.wait_for(rf"copy-1 \(pid {pid}\) has not answered for 1 s")
    os.kill(pid, signal.SIGCONT)
    process.errors.wait_for(rf"copy-1 \(pid {pid}\) answers again")
    process.send(signal.SIGTERM)
    assert process.code() == 0


# -- from code

SCRIPT = """
    import threading
    from micro_framework.amqp.entrypoints import EventListener
    from micro_framework.routes import Route
    from micro_framework.runner import Runner, RunnerContext
    import shop

    class Own:
        name = "own"

        @EventListener("web", "owned")
        def owned(self, number):
            shop.say("owned", number)

    routes = [Route("shop.say", EventListener("web", "routed"))]
    LOGGING = {
        "formatters": {"json": {"()": "micro_framework.logs.JSONFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
    }
    CONFIG = {"PROCESSES": 2, "AMQP_URI": "%s", "SERVICE_NAME": "routed", "LOGGING": LOGGING}
"""

GUARDED = """
    if __name__ == "__main__":
        runner = Runner([Own, shop.Shop, RunnerContext(routes, name="apart")], CONFIG)
        %s
        print("returned", flush=True)
"""


def script(uri: str, begin: str) -> str:
    return textwrap.dedent(SCRIPT).replace("%s", uri) + textwrap.dedent(GUARDED).replace("%s", begin)


def test_a_runner_in_a_program_runs_in_copies(start: Start, rabbit: VHost, outside: Outside) -> None:
    process = start(script=script(rabbit.uri, "runner.start()"))
    process.errors.wait_for(r'"ready: .*routed \(1 targets\).* in 2 copies')
    outside.event("web", "owned", 1)
    outside.event("web", "routed", 2)
    outside.event("web", "heard", 3)
    process.output.wait_for(r"^copy-\d owned 1$")
    process.output.wait_for(r"^copy-\d 2$")
    process.output.wait_for(r"^copy-\d heard 3$", 2)
    process.send(signal.SIGTERM)
    assert process.code() == 0
    assert process.output.lines[-1] == "returned"
    assert {entry["process"] for entry in process.log()} == {"supervisor", "copy-1", "copy-2"}


STOPPED_ELSEWHERE = """thread = threading.Thread(target=runner.start)
    thread.start()
    open("asked").read()
    print("ready", runner.ready, flush=True)
    runner.stop()
    print("ready", runner.ready, flush=True)
    thread.join()"""


def test_a_runner_of_copies_is_stopped_from_another_thread(start: Start, rabbit: VHost, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "asked")
    process = start(script=script(rabbit.uri, STOPPED_ELSEWHERE))
    process.errors.wait_for('"ready: ')
    os.close(os.open(tmp_path / "asked", os.O_WRONLY))
    assert process.code() == 0
    assert process.output.lines == ["ready True", "ready False", "returned"]


def test_a_stop_may_be_asked_for_before_the_start(start: Start, rabbit: VHost) -> None:
    process = start(script=script(rabbit.uri, "runner.request_stop(); runner.start()"))
    assert process.code() == 0
    assert process.copies() == {}


def test_a_script_that_starts_whoever_imports_it_is_told_how_not_to(start: Start, rabbit: VHost) -> None:
    text = script(rabbit.uri, "runner.start()").replace('if __name__ == "__main__":', "if True:")
    process = start(script=text)
    assert process.code() == 1
    assert process.errors.lines[-1].startswith("micro_framework.exceptions.CopyFailed: the main module starts its ")
    assert 'put the start under `if __name__ == "__main__":`' in process.errors.lines[-1]
    assert len([line for line in process.errors.lines if "Traceback" in line]) == 1


def test_a_failure_is_raised_as_the_copy_raised_it(start: Start, rabbit: VHost) -> None:
    begin = "CONFIG['AMQP_URI'] += '-no-such-vhost'; runner = Runner([Own], CONFIG); runner.start()"
    process = start(script=script(rabbit.uri, begin))
    assert process.code() == 1
    assert process.errors.lines[-1].startswith("micro_framework.exceptions.BrokerRefused: ")


def test_a_module_that_the_copies_cannot_import_is_told_of(start: Start, rabbit: VHost) -> None:
    begin = "import sys; sys.modules['made_up'] = shop; shop.Shop.__module__ = 'made_up'; runner.start()"
    process = start(script=script(rabbit.uri, begin))
    assert process.code() == 1
    assert "a copy cannot load the services that it was given: ModuleNotFoundError" in process.errors.lines[-1]


def test_services_of_a_session_are_refused_by_name(tmp_path: Path, rabbit: VHost) -> None:
    text = script(rabbit.uri, "runner.start()").replace("import shop\n", "\n")
    text = text.replace('Own, shop.Shop, RunnerContext(routes, name="apart")', "Own")
    process = ServiceProcess(tmp_path, ["-c", text])
    try:
        assert process.code() == 1
        assert "class Own cannot be handed to other processes (it is defined in a session" in process.errors.lines[-1]
    finally:
        process.close()


def test_a_program_goes_on_when_its_copies_have_stopped_and_nothing_is_left_of_them(start: Start) -> None:
    left = "import multiprocessing as m; print(m.current_process().name, m.active_children(), threading.enumerate())"
    process = start(script=answering(left, "run()"))
    process.errors.wait_for("ready: nothing in 2 copies")
    process.send(signal.SIGTERM)
    assert process.code() == 0
    assert process.output.lines[-1].startswith("MainProcess [] [<_MainThread(MainThread,")
    assert process.output.lines[-1].count("Thread(") == 1
