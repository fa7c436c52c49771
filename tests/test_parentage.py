"""A process that must not outlive its parent, with real processes."""

import os
import select
import signal
import subprocess
import sys

SECONDS = 10.0

# The grandchild says its id and whether the kernel promised; the middle process hands that on and waits.
MIDDLE = """
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", sys.argv[1], str(%s)], stdout=subprocess.PIPE, text=True) as child:
    print(child.stdout.readline().strip(), flush=True)
    sys.stdin.read()
"""
CHILD = """
import os, sys
from micro_framework.parentage import end_with_parent
promised = end_with_parent(int(sys.argv[1]))
print(os.getpid(), promised, flush=True)
while True:
    pass
"""


def started(parent: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MIDDLE % parent, CHILD]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_busy_child_ends_with_a_killed_parent() -> None:
    with started("__import__('os').getpid()") as middle:
        assert middle.stdout is not None
        pid, promised = middle.stdout.readline().split()
        handle = os.pidfd_open(int(pid))
        try:
            middle.send_signal(signal.SIGKILL)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            assert poll.poll(SECONDS * 1000), "it outlived its parent"
        finally:
            os.close(handle)
    assert promised == "True"


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    with started("1") as middle:  # its parent is said to be another process than it is
        assert middle.stdout is not None
        assert middle.stdout.readline() == "\n", "it ended before it said anything"
