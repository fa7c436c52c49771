"""What a pool of workers promises, whatever its workers are made of; the word *greedy* is defined here, once."""

from typing import Any, Protocol

from micro_framework.lookout import Lookout

__all__ = ["WORKER_MODES", "Job", "Spawner", "is_greedy", "uses_processes"]

WORKER_MODES = ("thread", "greedy_thread", "process", "greedy_process")


def is_greedy(worker_mode: str) -> bool:
    """Whether a mode is greedy: at stop, everything already received is finished before the pool ends.

    In the other modes only running calls finish, and what still waits for a worker goes back to where it came from.
    """
    return worker_mode.startswith("greedy_")


def uses_processes(worker_mode: str) -> bool:
    """Whether a mode has each worker in a process of its own."""
    return worker_mode.endswith("process")


class Job(Protocol):
    """What is done with an item; one object serves all items of a route."""

    @property
    def label(self) -> str:
        """``Service.method``, for reports."""

    def process(self, item: Any) -> None:
        """Run it, in a worker. Does not raise."""

    def comes_again(self, item: Any) -> bool:
        """Whether an item that is given back is not lost; what does not come again is finished at the stop."""

    def hand_back(self, item: Any) -> None:
        """Give it back without having run it."""


class Spawner(Protocol):
    """A pool of workers."""

    def start(self) -> None:
        """Start the workers; returns when they can be given items.

        Raises:
            MicroFrameworkError: They cannot be started, and why.
        """

    def is_ready(self) -> bool:
        """Whether all that the workers need is connected; changes are reported to the runner's lifecycle."""

    @property
    def lookout(self) -> Lookout | None:
        """The pool itself, where idle workers can look out for input; None where they cannot."""

    def submit(self, job: Job, item: Any) -> None:
        """Queue an item; never waits. Thread safe."""

    def finish_waiting(self) -> None:
        """No more items come: what waits is finished (greedy) or handed back (otherwise). Returns at once.

        What does not come again (`Job.comes_again`) is finished in either mode.
        """

    def stop(self, deadline: float) -> list[str]:
        """End the workers once they are idle; `finish_waiting` comes first.

        Args:
            deadline: ``time.monotonic()`` seconds after which running calls are abandoned.

        Returns:
            The labels of the calls that were abandoned.
        """
