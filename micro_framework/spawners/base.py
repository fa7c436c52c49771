"""What a pool of workers promises, whatever its workers are made of; the word *greedy* is defined here, once."""

from typing import Any, Protocol

__all__ = ["Job", "Spawner", "is_greedy"]


def is_greedy(worker_mode: str) -> bool:
    """Whether a mode is greedy: at stop, everything already received is finished before the pool ends.

    In the other modes only running calls finish, and what still waits for a worker goes back to where it came from.
    """
    return worker_mode.startswith("greedy_")


class Job(Protocol):
    """What is done with an item; one object serves all items of a route."""

    @property
    def label(self) -> str:
        """``Service.method``, for reports."""

    def process(self, item: Any) -> None:
        """Run it, in a worker. Does not raise."""

    def hand_back(self, item: Any) -> None:
        """Give it back without having run it."""


class Spawner(Protocol):
    """A pool of workers."""

    def start(self) -> None:
        """Start the workers."""

    def submit(self, job: Job, item: Any) -> None:
        """Queue an item; never waits. Thread safe."""

    def finish_waiting(self) -> None:
        """No more items come: what waits is finished (greedy) or handed back (otherwise). Returns at once."""

    def stop(self, deadline: float) -> list[str]:
        """End the workers once they are idle; `finish_waiting` comes first.

        Args:
            deadline: ``time.monotonic()`` seconds after which running calls are abandoned.

        Returns:
            The labels of the calls that were abandoned.
        """
