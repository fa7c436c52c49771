"""What to tell when RabbitMQ took messages back because of a call that took too long. Pure.

Either a message was not acknowledged in time (``consumer_timeout``), or a call held the interpreter for so long that no
heartbeat was answered. The broker says nothing of the kind; the calls that are under way tell.
"""

from collections.abc import Sequence

from micro_framework.calls import Underway

__all__ = ["overdue_report", "standstill_report"]

LEAST_SLACK, SLACK = 1.0, 0.1
"""The broker counts from when it sent a message: a call that has run for so many seconds less, or for such a share of
the limit less, counts as late."""
MOST_NAMED = 10
"""Calls that one report names."""

WAYS_OUT = (
    "There are two ways out: raise consumer_timeout above the longest call (consumer_timeout = <milliseconds> in "
    "rabbitmq.conf; from RabbitMQ 3.12 on also for these queues alone, by a policy with consumer-timeout), or have "
    "messages acknowledged earlier: make the call shorter, for instance by handing each part of the work on as a "
    "message of its own"
)


def overdue_report(limit: float | None, underway: Sequence[Underway]) -> str:
    """One message that names the calls that ran too long and the ways out.

    Args:
        limit: The seconds that the broker allows; None where it does not say, as RabbitMQ 4.3 does not.
        underway: The calls that run now.
    """
    oldest_first = sorted(underway, key=lambda call: call.seconds, reverse=True)
    if limit is None:
        who = (
            f"Running is {named(oldest_first)}"
            if underway
            else "Nothing is running: it waits for a worker, or is held off"
        )
        return (
            "RabbitMQ has taken back what was not acknowledged for longer than its consumer_timeout, and delivers it "
            f"again. {who}; what is still running goes on. {WAYS_OUT}"
        )
    late = [call for call in oldest_first if call.seconds >= limit - max(LEAST_SLACK, SLACK * limit)]
    what = (
        f"RabbitMQ has taken back every message that was not acknowledged yet, and delivers it again, for one was kept "
        f"for longer than its consumer_timeout ({limit:g} s). "
    )
    if late:
        return (
            f"{what}Longer than that, or about as long, runs {named(late)}; what is still running goes on. {WAYS_OUT}"
        )
    running = (
        f"it waited for a worker before, or is held off; running is {named(oldest_first)}"
        if underway
        else ("it waited for a worker, or is held off; nothing is running")
    )
    return f"{what}No call runs as long as that: {running}. A lower PREFETCH_COUNT keeps fewer waiting. {WAYS_OUT}"


def standstill_report(seconds: float, ran: Sequence[Underway]) -> str:
    """One message that names the calls that may have held the interpreter, and the ways out.

    Args:
        seconds: How long nothing else ran.
        ran: The calls that ran meanwhile.
    """
    oldest_first = sorted(ran, key=lambda call: call.seconds, reverse=True)
    who = f"Meanwhile ran {named(oldest_first)}" if ran else "No call that came by it ran meanwhile; another may have"
    return (
        f"RabbitMQ has given this connection up, and delivers again what was not acknowledged, for this process stood "
        f"still for {seconds:.1f} s and answered no heartbeat. {who}. Who holds the interpreter (a long regular "
        "expression, C code that does not release it) lets no other thread run; or the process was stopped, or its "
        "machine overloaded. Run such calls in worker processes (WORKER_MODE: process), or raise HEARTBEAT above their "
        "length"
    )


def named(calls: Sequence[Underway]) -> str:
    """Calls, the oldest first."""
    texts = [f"{call.target} (call {call.call_id}, for {call.seconds:.0f} s)" for call in calls[:MOST_NAMED]]
    more = len(calls) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")
