"""The life of a contestant apart from its rate: how soon it handles a message, its memory, and how it stops.

Each life is two processes. The first handles one message (start), waits (idle memory) and drains a queue (loaded
memory). The second is told to stop while it handles a message; what counts is the time from the end of that message to
the end of the process.
"""

import signal
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from benchmarks.plan import Contestant
from benchmarks.runs import Contest, Void, faults, is_drained, started

__all__ = ["FIGURES", "Life", "measure_life"]

WORKERS = 10
IDLE_SECONDS = 1.0
LOAD_MESSAGES = 20_000
START_SECONDS, LOAD_SECONDS, STOP_SECONDS = 30.0, 60.0, 30.0
LAST_PAUSE = 0.5
"""Seconds that the message takes during which the process is told to stop."""


@dataclass(frozen=True)
class Life:
    """What one life measured.

    Args:
        contestant: Its name.
        start: Milliseconds from the start of the process to its first message handled, which was waiting.
        idle, loaded: Megabytes (proportional set size, all its processes) before and after many messages.
        stop: Milliseconds from the end of the last call to the end of the process, SIGTERM having come during the call.
    """

    contestant: str
    start: float
    idle: float
    loaded: float
    stop: float

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


FIGURES = {"start": "start, ms", "idle": "idle, MB", "loaded": "loaded, MB", "stop": "stop, ms"}
"""What is printed, by the names of the fields."""


def measure_life(contest: Contest, contestant: Contestant) -> Life:
    """One life, both of its processes.

    Raises:
        Void: A message was lost, left or handled twice, or the process did not start, stop, or stop cleanly.
    """
    recording = replace(contestant, together=True)
    return Life(contestant.name, *first_process(contest, recording), second_process(contest, recording))


def first_process(contest: Contest, contestant: Contestant) -> tuple[float, float, float]:
    template = contest.template(contestant)
    with contest.virtual_host(contestant.source) as (vhost, side):
        identities = side.fill(template, 1)
        begin = time.monotonic()
        with started(contestant, order(vhost.uri)) as process:
            process.wait_recorded(1, START_SECONDS)
            start = process.record()["times"][0] - begin
            time.sleep(IDLE_SECONDS)
            idle = memory(process.process)
            identities += side.publish(template, LOAD_MESSAGES)
            process.wait_recorded(len(identities), LOAD_SECONDS)
            settled = is_drained(vhost, contestant.source.queue)
            loaded, handled = memory(process.process), process.record()["ids"]
        left = vhost.depth(contestant.source.queue)
    if found := faults(identities, handled, left if settled else max(left, 1)):
        raise Void(found)
    return start * 1000, idle, loaded


def second_process(contest: Contest, contestant: Contestant) -> float:
    template = contest.template(contestant)
    with contest.virtual_host(contestant.source) as (vhost, side):
        identities = side.fill(template, 1)
        with started(contestant, {**order(vhost.uri), "pause": LAST_PAUSE}) as process:
            process.wait_recorded(1, START_SECONDS)
            identities += side.publish(template, 1)
            time.sleep(LAST_PAUSE / 2)  # so that the call is under way
            told = time.monotonic()
            process.process.send_signal(signal.SIGTERM)
            try:
                process.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise Void(f"{contestant.name} was still there {STOP_SECONDS:g} s after SIGTERM") from None
            stopped, report = time.monotonic(), process.record()
        left = vhost.depth(contestant.source.queue)
    if found := faults(identities, report["ids"], left):
        raise Void(f"{found} at a stop")
    return (stopped - max(told, report["times"][-1])) * 1000


def order(uri: str) -> dict[str, Any]:
    return {"role": "consume", "workers": WORKERS, "warmup": 0, "measured": 0, "uri": uri}


def memory(process: "subprocess.Popen[bytes]") -> float:
    """Megabytes of a process and all that it has started; what they share counts once."""
    top = psutil.Process(process.pid)
    return float(sum(each.memory_full_info().pss for each in (top, *top.children(recursive=True))) / 1e6)
