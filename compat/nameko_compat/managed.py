"""Threads that extensions have their container run, with the interface of eventlet's green threads.

A thread cannot be killed. `ManagedThread.kill` asks it to end: it wakes the thread where it sleeps or waits by
`pause`, and there `Killed` (eventlet's ``GreenletExit``) is raised in it.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Killed", "ManagedThread", "current", "pause"]

logger = logging.getLogger(__name__)

local = threading.local()


class Killed(BaseException):
    """Raised in a thread that has been asked to end."""


class ManagedThread:
    """One function in a thread of its own.

    Args:
        function: What to run.
        args: Its arguments.
        kwargs: Likewise.
        name: The thread's name.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, name: str, **kwargs: Any) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.killed = threading.Event()
        self.finished = threading.Event()
        self.guard = threading.Lock()
        self.links: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> "ManagedThread":
        """Begin."""
        self.thread.start()
        return self

    def run(self) -> None:
        """The thread."""
        local.managed = self
        try:
            if not self.killed.is_set():
                self.result = self.function(*self.args, **self.kwargs)
        except BaseException as error:  # noqa: BLE001 - it is for whoever waits, and for those linked
            self.error = error
        with self.guard:
            self.finished.set()
            links, self.links = self.links, []
        for link in links:
            self.tell(link)

    def tell(self, link: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> None:
        """Tell one of those linked."""
        function, args, kwargs = link
        try:
            function(self, *args, **kwargs)
        except BaseException:
            logger.exception("what was linked to thread %s raised", self.thread.name)

    def link(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``function(thread, ...)`` when it has ended, now if it has."""
        entry = (function, args, kwargs)
        with self.guard:
            if not self.finished.is_set():
                self.links.append(entry)
                return
        self.tell(entry)

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for its end; what the function returned.

        Args:
            timeout: Seconds; None for ever.

        Raises:
            TimeoutError: It goes on.
            BaseException: What the function raised.
        """
        if not self.finished.wait(timeout):
            raise TimeoutError(f"thread {self.thread.name} still runs after {timeout} s")
        if self.error is not None:
            raise self.error
        return self.result

    def kill(self, *exc_info: Any) -> None:
        """Ask it to end; returns at once."""
        self.killed.set()

    cancel = kill

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self.finished.is_set()

    def __bool__(self) -> bool:
        return not self.dead


def current() -> ManagedThread | None:
    """The managed thread that this code runs in, None in others."""
    found: ManagedThread | None = getattr(local, "managed", None)
    return found


def pause(seconds: float) -> None:
    """Sleep; a managed thread that is killed meanwhile wakes.

    Raises:
        Killed: It was killed.
    """
    managed = current()
    woken = managed.killed.wait(seconds) if managed is not None else bool(threading.Event().wait(seconds))
    if woken:
        raise Killed
