"""Signals, in processes of their own: each test sends real ones."""

import signal
import subprocess
import sys
import threading

import pytest

from micro_framework.signals import STOP_SIGNALS, SignalWatch

SECONDS = 40

PROGRAM = """
import queue, sys
from micro_framework.signals import SignalWatch

stopped = queue.SimpleQueue()
with SignalWatch(lambda: stopped.put(None)):
    print("watching", flush=True)
    stopped.get()
    print("stopping", flush=True)
    sys.stdin.read()
print("done", flush=True)
"""


@pytest.fixture
def program():
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", PROGRAM], **pipes, text=True) as process:
        try:
            assert process.stdout.readline() == "watching\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_asks_for_a_stop(program, number):
    program.send_signal(number)
    assert program.stdout.readline() == "stopping\n"
    output, errors = program.communicate("", timeout=SECONDS)
    assert (output, errors, program.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("first", STOP_SIGNALS)
@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_the_second_signal_ends_the_process_whatever_the_main_thread_waits_for(program, first, second):
    program.send_signal(first)
    assert program.stdout.readline() == "stopping\n"
    assert insist(program, second) == 128 + second
    assert "second signal" in program.stderr.read()


def insist(program, number):
    """Send a signal until the process ends: one that comes at once may count as the first one again."""
    for _ in range(100):
        program.send_signal(number)
        try:
            return program.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("it did not end")


INSISTENT = """
import queue
from micro_framework.signals import SignalWatch

again = queue.SimpleQueue()
with SignalWatch(lambda: print("stopping", flush=True), again.put):
    print("watching", flush=True)
    print([again.get() for _ in range(2)], flush=True)
"""


def test_what_a_later_signal_does_can_be_chosen():
    with subprocess.Popen([sys.executable, "-c", INSISTENT], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "watching\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            insist(process, signal.SIGINT)
            assert process.stdout.read() == f"[{signal.SIGINT}, {signal.SIGINT}]\n"
        finally:
            process.kill()


def test_a_signal_that_comes_twice_at_once_is_one_request(program):
    program.send_signal(signal.SIGTERM)
    program.send_signal(signal.SIGTERM)
    output, _ = program.communicate("", timeout=SECONDS)
    assert (output, program.returncode) == ("stopping\ndone\n", 0)


def test_the_handlers_that_were_there_are_put_back():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with SignalWatch(lambda: None):
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    fd = signal.set_wakeup_fd(-1)
    assert fd == -1


def test_other_signals_do_not_count():
    asked = threading.Event()
    noticed = threading.Event()
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: noticed.set())
    try:
        with SignalWatch(asked.set):
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert noticed.wait(SECONDS)
            assert not asked.is_set()
            signal.raise_signal(signal.SIGTERM)
            assert asked.wait(SECONDS)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_outside_of_the_main_thread_nothing_is_touched():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    seen = []

    def elsewhere():
        with SignalWatch(lambda: None):
            seen.extend(signal.getsignal(number) for number in STOP_SIGNALS)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(SECONDS)
    assert seen == before


CHILD = """
import os, signal
from micro_framework.signals import SignalWatch

with SignalWatch(lambda: print("the parent stops", flush=True)):
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_signal_to_a_forked_child_is_the_childs_own():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout == f"{-signal.SIGTERM}\n", "the child ended by it, the parent heard nothing"


def test_the_second_signal_ends_a_process_whose_stderr_nobody_reads(program):
    program.stderr.close()
    program.send_signal(signal.SIGTERM)
    assert program.stdout.readline() == "stopping\n"
    assert insist(program, signal.SIGINT) == 128 + signal.SIGINT
