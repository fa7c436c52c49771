"""What a soak has found: is memory flat, do threads and descriptors stay, was every message handled exactly once?

The cycles after the warm-up, which is the first quarter, are divided in thirds; each cycle does the same, so the first
third and the last differ in nothing but the messages between them. What is compared are medians, of the memory that is
a process's alone (USS). The bounds:

- Less than 5 % more: over an hour this is the tighter one, a fraction of a byte for each message. Of fewer than 100,000
  messages 10 %, for a process takes longer than that to reach the size that it stays at.
- Less than one byte for each message between the middles of the thirds, for the smallest object that could be kept is
  larger: 16 bytes, and 8 for who keeps it. Up to 1 MB is left out of account, since Python takes memory from the
  system a megabyte at a time, and an arena more or less says nothing.
- The same threads and the same descriptors, by their medians: what helps for a moment may come and go.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Flatness", "Party", "Sample", "Slice", "flatness_of", "growths", "rates", "thirds", "unequal"]

MOST_GROWTH, MOST_GROWTH_SHORT = 0.05, 0.10
SHORT = 100_000
MOST_BYTES = 1.0
ARENA = 1 << 20


@dataclass(frozen=True)
class Party:
    """One process at one moment.

    Args:
        messages: How many it has had to do with: handled, published or called.
        rss, pss, uss: Bytes: resident; with its share of what it shares; its own alone.
        threads, descriptors: How many.
        cpu: Seconds of CPU time so far.
    """

    messages: int
    rss: int
    pss: int
    uss: int
    threads: int
    descriptors: int
    cpu: float


@dataclass(frozen=True)
class Sample:
    """All processes at one moment.

    Args:
        at: Seconds since the first slice began.
        cycle: Which cycle it was, from 0.
        waiting: How many events waited.
        parties: The processes by name.
    """

    at: float
    cycle: int
    waiting: int
    parties: Mapping[str, Party]

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


@dataclass(frozen=True)
class Slice:
    """One kind of work for some time.

    Args:
        kind: What was done.
        cycle: In which cycle.
        messages: How many were handled.
        seconds: From its begin until the last was handled.
    """

    kind: str
    cycle: int
    messages: int
    seconds: float


@dataclass(frozen=True)
class Flatness:
    """How one process was in the first third and in the last.

    Args:
        uss, rss, threads, descriptors: The medians of the two thirds.
        cpu: Microseconds of CPU time for each of its messages, in the two thirds.
        messages: How many it had between the middles of the thirds.
        slope: Bytes of USS for each message, over all samples after the warm-up (least squares).
    """

    uss: tuple[float, float]
    rss: tuple[float, float]
    threads: tuple[float, float]
    descriptors: tuple[float, float]
    cpu: tuple[float, float]
    messages: float
    slope: float

    @property
    def growth(self) -> float:
        """Bytes of USS more."""
        return self.uss[1] - self.uss[0]

    def faults(self) -> Iterator[str]:
        """What is not flat."""
        if self.growth >= (MOST_GROWTH_SHORT if self.messages < SHORT else MOST_GROWTH) * self.uss[0]:
            yield f"its memory grew by {self.growth / self.uss[0]:.1%}, from {self.uss[0] / 1e6:.1f} MB"
        if self.growth >= ARENA and self.growth >= MOST_BYTES * self.messages:
            yield f"its memory grew by {self.growth / self.messages:.1f} bytes a message"
        for what in ("threads", "descriptors"):
            first, last = getattr(self, what)
            if first != last:
                yield f"it had {first:g} {what} in the first third, and {last:g} in the last"


def thirds(cycles: int) -> tuple[range, range]:
    """The first and the last third of the cycles after the warm-up.

    Args:
        cycles: How many there are, at least 4.
    """
    warmup = max(1, cycles // 4)
    third = (cycles - warmup) // 3
    return range(warmup, warmup + third), range(cycles - third, cycles)


def flatness_of(samples: Sequence[Sample], cycles: int, party: str) -> Flatness:
    """How one process was.

    Args:
        samples: All of them, in the order of time.
        cycles: How many cycles there were.
        party: The process.
    """
    first, last = ([sample for sample in samples if sample.cycle in third] for third in thirds(cycles))
    warm = [sample for sample in samples if sample.cycle >= first[0].cycle]

    def medians(figure: Callable[[Sample], float]) -> tuple[float, float]:
        return statistics.median(map(figure, first)), statistics.median(map(figure, last))

    messages = medians(lambda sample: sample.parties[party].messages)
    return Flatness(
        medians(lambda sample: sample.parties[party].uss),
        medians(lambda sample: sample.parties[party].rss),
        medians(lambda sample: sample.parties[party].threads),
        medians(lambda sample: sample.parties[party].descriptors),
        (cpu_in(first, party), cpu_in(last, party)),
        messages[1] - messages[0],
        statistics.linear_regression(
            [sample.parties[party].messages for sample in warm], [sample.parties[party].uss for sample in warm]
        ).slope,
    )


def cpu_in(samples: Sequence[Sample], party: str) -> float:
    begin, end = samples[0].parties[party], samples[-1].parties[party]
    return (end.cpu - begin.cpu) * 1e6 / max(1, end.messages - begin.messages)


def growths(found: Mapping[str, Flatness]) -> list[str]:
    """What is not flat, of all processes."""
    return [f"{party}: {fault}" for party, flatness in found.items() for fault in flatness.faults()]


def unequal(sent: Sequence[int], handled: Sequence[int], through: Sequence[int], twice: int) -> list[str]:
    """What was not handled exactly once; empty if everything was.

    Args:
        sent: How many messages each source has sent.
        handled: How many of them were handled.
        through: How many were handled from the first on without a gap.
        twice: How many were handled again.
    """
    found = [f"{twice} messages were handled twice"] if twice else []
    for source, counts in enumerate(zip(sent, handled, through, strict=True)):
        if len(set(counts)) > 1:
            found.append(f"source {source} sent {counts[0]}, handled were {counts[1]}, {counts[2]} without a gap")
    return found


def rates(slices: Sequence[Slice], kind: str, cycles: range) -> list[float]:
    """Messages per second of the slices of one kind.

    Args:
        slices: All of them.
        kind: Which ones.
        cycles: In which cycles.
    """
    return [each.messages / each.seconds for each in slices if each.kind == kind and each.cycle in cycles]
