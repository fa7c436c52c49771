"""eventlet's green threads, which are threads here."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

from nameko_compat.green.timeout import wait_for
from nameko_compat.managed import Killed as GreenletExit, ManagedThread as GreenThread, current

__all__ = [
    "GreenThread",
    "GreenletExit",
    "getcurrent",
    "kill",
    "sleep",
    "spawn",
    "spawn_after",
    "spawn_n",
]

numbers = itertools.count(1)


def sleep(seconds: float = 0) -> None:
    """Let other threads run for so many seconds."""
    never = threading.Event()
    wait_for(never.wait, seconds)


def spawn(function: Callable[..., Any], *args: Any, **kwargs: Any) -> GreenThread:
    """Run a function in a thread of its own."""
    name = f"mf-green-{next(numbers)}-{getattr(function, '__name__', 'function')}"
    return GreenThread(lambda: function(*args, **kwargs), name=name).start()


spawn_n = spawn


def spawn_after(seconds: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> GreenThread:
    """The same, in so many seconds."""

    def later() -> Any:
        sleep(seconds)
        return function(*args, **kwargs)

    return spawn(later)


def getcurrent() -> Any:
    """The running thread."""
    return current() or threading.current_thread()


def kill(thread: GreenThread, *exc_info: Any) -> None:
    """Ask a thread to end."""
    thread.kill(*exc_info)
