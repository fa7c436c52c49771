"""The example with Nameko of both versions and micro_framework: as a user starts it, on the test's broker."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection

from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "mixed_cluster"
NAMEKO, OURS = "Nameko 3.0.0rc11", "micro_framework"
STEPS = 8
DEADLINE = 120.0

pytestmark = pytest.mark.timeout(300)  # beside other work, with two Namekos to start


@contextmanager
def cluster(vhost: VHost, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The command of the README on a virtual host; with SIGTERM after the block, if it still runs then."""
    command = [sys.executable, str(FOLDER / "run.py"), *options]
    variables = os.environ | {"AMQP_URI": vhost.uri}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.communicate(timeout=DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()


def pattern_of(line: str) -> str:
    """A regular expression for a line in which all counts and times may differ, and the width of columns with them."""
    name, of_counts = r"(Nameko [\w.]+)", []
    for part in re.split(name, line):
        if re.fullmatch(name, part):
            of_counts.append(re.escape(part))
        else:
            counts = re.sub(r"\d[\d.]*", "0", part)
            of_counts.append(re.sub(r"(event|call)s?\b(?!=|-)", r"\1s?", escaped(counts)))
    return "".join(of_counts)


def escaped(text: str) -> str:
    return re.sub(r"(?:\\ )+", " +", re.escape(text)).replace("0", r"[\d.]+")


def shown_in_readme() -> list[str]:
    blocks = re.findall(r"^```text\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_everything_arrives_and_the_readme_shows_it(rabbit: VHost) -> None:
    with cluster(rabbit, "--seconds", "3", "--patience", "60") as process:
        output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output + errors
    for line in shown_in_readme():
        assert re.search(f"^ *{pattern_of(line.strip())}$", output, re.MULTILINE), f"{line!r} is not in:\n{output}"
    orders = int(re.search(r"^(\d+) orders in", output, re.MULTILINE)[1])  # type: ignore[index]
    assert f"{orders * STEPS} of {orders * STEPS} arrived, 0 lost" in output
    arrived = Counter(re.findall(r"order (\d+) ", output))
    assert arrived == {str(order): STEPS for order in range(1, orders + 1)}
    shared = {name: len(re.findall(f"payments .{re.escape(name)}. +placed", output)) for name in (NAMEKO, OURS)}
    assert sum(shared.values()) == orders
    assert f": {shared[NAMEKO]} to {NAMEKO}, {shared[OURS]} to {OURS}" in output
    assert min(shared.values()) >= 1


def test_what_is_lost_is_named_and_the_command_fails(rabbit: VHost) -> None:
    with cluster(rabbit, "--seconds", "600", "--patience", "1") as process:
        assert process.stdout is not None
        wait_for_line(process, "order 1 ")
        with Connection(rabbit.uri) as connection:
            name = "evt-shipping-shipped--books.shipped"
            connection.default_channel.queue_unbind(name, "shipping.events", "shipped")
        with RPCClient(rabbit.uri, timeout=DEADLINE) as rpc:
            placed_before = rpc.orders.close()
            rpc.orders.open()
        wait_for_line(process, f"order {placed_before + 1} ")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1, output + errors
    assert re.search(r"^lost: order \d+: event 'shipped' from shipping to books$", output, re.MULTILINE), output
    assert re.search(r" arrived, [1-9]\d* lost, 0 more than once", output)


def wait_for_line(process: "subprocess.Popen[str]", text: str) -> str:
    """The next line with a text in it; the time limit of the test is the deadline."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"no {text!r} in the output: {process.stderr.read() if process.stderr else ''}")
