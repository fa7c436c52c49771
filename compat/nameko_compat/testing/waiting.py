"""Waiting for a call of a function that is somewhere in an object."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

__all__ = ["WaitResult", "wait_for_call"]

Callback = Callable[[Any, Any, Any, Any], object]


class WaitResult:
    """What became of the call that is waited for; the first one counts."""

    class NotReady(Exception):
        """There is no result yet."""

    sentinel = object()
    res: Any
    exc_info: Any

    def __init__(self) -> None:
        self.res = self.sentinel
        self.exc_info = None

    @property
    def has_result(self) -> bool:
        """Whether it has ended."""
        return self.res is not self.sentinel or self.exc_info is not None

    def send(self, res: Any, exc_info: Any) -> None:
        """Note how it ended."""
        if not self.has_result:
            self.res = res
            self.exc_info = exc_info

    def get(self) -> Any:
        """What was returned.

        Raises:
            WaitResult.NotReady: It has not ended.
            BaseException: What was raised.
        """
        if not self.has_result:
            raise WaitResult.NotReady
        if self.exc_info is not None:
            raise self.exc_info[1]
        return self.res


@contextmanager
def wait_for_call(obj: Any, target: str, callback: Callback | None = None) -> Iterator[WaitResult]:
    """Wait at the end of the block until a method of an object has been called in it.

    Args:
        obj: The object.
        target: The method's name.
        callback: Gets ``args, kwargs, result, exc_info`` of each call; whether it is the one.
    """
    original = getattr(obj, target)
    called = threading.Event()
    waited = WaitResult()

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = exc_info = None
        try:
            result = original(*args, **kwargs)
        except Exception:
            exc_info = sys.exc_info()
            raise
        finally:
            if callback is None or callback(args, kwargs, result, exc_info):
                waited.send(result, exc_info)
                called.set()
        return result

    with patch.object(obj, target, new=watched):
        yield waited
        called.wait()
