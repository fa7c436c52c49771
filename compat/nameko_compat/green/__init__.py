"""eventlet's names on threads, for services that import it: ``run --nameko`` lets ``import eventlet`` mean this.

A green thread is a thread, so everything that waits lets others run, patched or not: `monkey_patch` has nothing to do.
Two things differ. A thread cannot be killed from outside: `GreenThread.kill` takes effect where it next sleeps or
waits by this package, also for the answer of a call. And a `Timeout` does not interrupt: it is raised where its block
next sleeps or waits by this package, and else when the block ends too late.
"""

import sys
from typing import Any

from nameko_compat.green.event import Event
from nameko_compat.green.greenpool import GreenPile, GreenPool
from nameko_compat.green.greenthread import (
    GreenletExit,
    GreenThread,
    getcurrent,
    kill,
    sleep,
    spawn,
    spawn_after,
    spawn_n,
)
from nameko_compat.green.queue import Queue
from nameko_compat.green.semaphore import Semaphore
from nameko_compat.green.timeout import Timeout, with_timeout

__all__ = [
    "Event",
    "GreenPile",
    "GreenPool",
    "GreenThread",
    "GreenletExit",
    "Queue",
    "Semaphore",
    "StopServe",
    "Timeout",
    "getcurrent",
    "import_patched",
    "kill",
    "monkey_patch",
    "sleep",
    "spawn",
    "spawn_after",
    "spawn_n",
    "with_timeout",
]


class StopServe(Exception):
    """Ends a server of eventlet's; nothing here raises it."""


def monkey_patch(**modules: Any) -> None:
    """Nothing to do: the standard library's modules let other threads run as they are."""


def import_patched(name: str, *additional_modules: Any, **kwargs: Any) -> Any:
    """The module itself: there is nothing to patch in it."""
    __import__(name)
    return sys.modules[name]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith("<frozen"):
        frame = frame.f_back
    raise ImportError(
        f"eventlet.{name} is not in nameko_compat, where eventlet means threads "
        f"(at {frame.f_code.co_filename}, line {frame.f_lineno}); there is {', '.join(sorted(__all__))}",
        name=__name__,
    )
