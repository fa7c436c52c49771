"""The numbers that the processes of a soak show each other, and who has seen which message.

All of it keeps its size, however many messages there are: what judges whether memory is flat must not grow itself.
"""

import mmap
import threading

__all__ = ["CALLERS", "CALLING", "EVENTS", "MANY", "PUBLISHERS", "PUBLISHING", "SOURCES", "Board", "Phase", "Seen"]

PUBLISHERS, CALLERS = 10, 10
MANY = 0
"""The source that publishes a thousand events at a time."""
PUBLISHING = range(1, 1 + PUBLISHERS)
EVENTS = range(1 + PUBLISHERS)
CALLING = range(1 + PUBLISHERS, 1 + PUBLISHERS + CALLERS)
SOURCES = len(EVENTS) + len(CALLING)
"""Threads that publish or call; each numbers its messages from 0."""


class Phase:
    """What is to be done now."""

    PAUSE, CONSUME, PUBLISH, CALL, TOGETHER, OVER = range(6)


class Number:
    """An attribute of a board that is one of its numbers.

    Args:
        at: Which.
    """

    def __init__(self, at: int) -> None:
        self.at = at

    def __get__(self, board: "Board", owner: type["Board"]) -> int:
        return board.numbers[self.at]

    def __set__(self, board: "Board", value: int) -> None:
        board.numbers[self.at] = value


class Board:
    """Numbers in shared memory. Each is written by one process alone, and read or written in one step.

    Args:
        file: The descriptor of an open file of `Board.SIZE` bytes.
    """

    SIZE = 8 * (4 + 4 * SOURCES)

    def __init__(self, file: int) -> None:
        # Native eight-byte numbers on their own boundaries are copied whole; struct would go byte by byte.
        self.numbers = memoryview(mmap.mmap(file, self.SIZE)).cast("Q")
        rows = [self.numbers[4 + row * SOURCES : 4 + (row + 1) * SOURCES] for row in range(4)]
        self.sent, self.handled, self.through, self.paused = rows
        """Of each source: messages confirmed or answered; handled; handled without a gap; the last pause it saw."""

    # -- written by the judge

    @property
    def turn(self) -> tuple[int, int]:
        """The number of the last change, and the phase that it began."""
        number, phase = divmod(self.numbers[0], 8)
        return number, phase

    def change(self, phase: int) -> None:
        """Begin a phase."""
        self.numbers[0] = (self.turn[0] + 1) * 8 + phase

    # -- written by the service

    twice = Number(1)
    """Messages that were handled again."""
    events = Number(2)
    """Events handled, of all sources."""
    furthest = Number(3)
    """The most messages of a source that were handled while an earlier one was missing."""

    # -- added up

    def waiting(self) -> int:
        """Events that are published and not handled."""
        return max(0, self.published() - self.events)

    def published(self) -> int:
        """Events that are confirmed."""
        return sum(self.sent[: len(EVENTS)])

    def called(self) -> int:
        """Calls that are answered."""
        return sum(self.sent[len(EVENTS) :])

    def messages(self) -> int:
        """Everything handled, events and calls."""
        return sum(self.handled)

    def all_paused(self) -> bool:
        """Whether every source has seen the present pause: none of its messages is under way."""
        number, _ = self.turn
        return all(seen == number for seen in self.paused)

    def all_handled(self) -> bool:
        """Whether there are as many handled as sent, of every source."""
        return list(self.sent) == list(self.handled)


class Seen:
    """Counts every message on the board, and finds those that come twice. Safe in threads.

    Of each source it keeps one number, below which all have come, and the few beyond: workers overtake each other.

    Args:
        board: Where it is shown.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.lock = threading.Lock()
        self.ahead: list[set[int]] = [set() for _ in range(SOURCES)]

    def note(self, source: int, number: int) -> None:
        """A message was handled."""
        board, ahead = self.board, self.ahead[source]
        with self.lock:
            through = board.through[source]
            if number < through or number in ahead:
                board.twice += 1
                return
            board.handled[source] += 1
            if source in EVENTS:
                board.events += 1
            if number > through:
                ahead.add(number)
                board.furthest = max(board.furthest, len(ahead))
                return
            through += 1
            while through in ahead:
                ahead.remove(through)
                through += 1
            board.through[source] = through
