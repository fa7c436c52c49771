"""Callers that publish, or call, as fast as the answers allow, for a fixed time; contestants are made of these."""

import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tally import Clocks, clocks, pack

__all__ = ["BATCH", "Callers", "fresh_payload"]

BATCH = 1000
"""Events that one call of a pipelining API gets."""

WARMUP_SECONDS = 0.3


def fresh_payload(size: int = 0) -> dict[str, Any]:
    """JSON that no other message has.

    Args:
        size: How many bytes its note has; 0 makes about 200 bytes of JSON.
    """
    return {
        "id": str(uuid.uuid4()),
        "customer": {"id": 4711, "name": "Ada Lovelace", "city": "London"},
        "items": [{"sku": "A-1", "n": 1}, {"sku": "B-2", "n": 20}],
        "note": "x" * size or "as ordered",
    }


class Callers:
    """Adds up what the callers of one run published or called.

    Args:
        order: Needs ``callers``, how many there will be, ``seconds`` to measure for, and ``report``, a path.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.results: list[dict[str, Any]] = []
        self.latencies: list[float] = []
        self.lock = threading.Lock()

    def run(self, publish: Callable[[Sequence[dict[str, Any]]], object], batch: int = 1) -> None:
        """One caller: publish until the time is up, and keep how long each publish took.

        Args:
            publish: Gets payloads and returns once they are confirmed.
            batch: How many payloads it gets at a time.
        """
        total = timed(publish, batch, WARMUP_SECONDS, [])
        begin = clocks()
        measured = timed(publish, batch, self.order["seconds"], self.latencies)
        self.note(total + measured, measured, begin, clocks())

    def run_calls(self, call: Callable[[dict[str, Any]], Any]) -> None:
        """One caller: call until the time is up, and keep how long each call took.

        Args:
            call: Gets a payload and returns what the service answered, which is that payload.
        """
        self.run(lambda payloads: verify(payloads[0], call(payloads[0])))

    async def run_async(self, publish: Callable[[Sequence[dict[str, Any]]], Awaitable[object]]) -> None:
        """One caller among others of an event loop: as `run`."""
        total = await timed_async(publish, WARMUP_SECONDS, [])
        begin = clocks()
        measured = await timed_async(publish, self.order["seconds"], self.latencies)
        self.note(total + measured, measured, begin, clocks())

    async def run_calls_async(self, call: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
        """One caller among others of an event loop: as `run_calls`."""

        async def one(payloads: Sequence[dict[str, Any]]) -> None:
            verify(payloads[0], await call(payloads[0]))

        await self.run_async(one)

    def note(self, total: int, measured: int, begin: Clocks, end: Clocks) -> None:
        """Keep a caller's result; the last one writes the report."""
        with self.lock:
            self.results.append({"total": total, "measured": measured, "begin": begin, "end": end})
            if len(self.results) == self.order["callers"]:
                pack(self.order["report"], {"callers": self.results, "latencies": sorted(self.latencies)})
                Path(self.order["report"] + ".done").touch()


def verify(payload: dict[str, Any], answer: Any) -> None:
    """Raise unless a call was answered with what it sent."""
    if answer != payload:
        raise ValueError(f"the answer to {payload} was {answer}")


def timed(
    publish: Callable[[Sequence[dict[str, Any]]], object], batch: int, seconds: float, latencies: list[float]
) -> int:
    """How many were published in about that time.

    Args:
        latencies: Gets how long each took; appending is safe for threads.
    """
    count, begin = 0, time.perf_counter()
    now = begin
    while now - begin < seconds:
        payloads = [fresh_payload() for _ in range(batch)]
        before = time.perf_counter()
        publish(payloads)
        now = time.perf_counter()
        latencies.append(now - before)
        count += batch
    return count


async def timed_async(
    publish: Callable[[Sequence[dict[str, Any]]], Awaitable[object]], seconds: float, latencies: list[float]
) -> int:
    """As `timed`, one at a time."""
    count, begin = 0, time.perf_counter()
    now = begin
    while now - begin < seconds:
        payload = fresh_payload()
        before = time.perf_counter()
        await publish([payload])
        now = time.perf_counter()
        latencies.append(now - before)
        count += 1
    return count
