"""`RPCFuture`: one call that waits for its answer; a `concurrent.futures.Future` with a deadline of its own."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from micro_framework.calls import Outcome
from micro_framework.clock import Alarm
from micro_framework.exceptions import RPCTimeout

__all__ = ["CallKeeper", "RPCFuture"]

RESOLVING = 5.0
"""Seconds that a thread may take between claiming a call and writing its outcome, two steps that follow each other."""


class CallKeeper(Protocol):
    """What a future asks of those who keep it."""

    def decode(self, answer: Any) -> Outcome:
        """Make an outcome of an answer; does not raise."""

    def expire(self, call: "RPCFuture") -> None:
        """Its deadline has passed: give it an `RPCTimeout`, unless it has an outcome."""

    def cancel(self, call: "RPCFuture") -> None:
        """It was cancelled: nobody wants its answer any more."""

    def call_back(self, callback: Callable[[], object]) -> None:
        """Run a callback on a thread that may wait."""


class RPCFuture(Future[Any]):
    """The answer to one call, now or later. Thread safe.

    It can be used with everything that takes a `concurrent.futures.Future` (``wait``, ``as_completed``,
    ``asyncio.wrap_future``). It always ends: with the answer, with a named error, or with `RPCTimeout` at its deadline.

    Args:
        service_name: The service that is called.
        method: The method that is called.
        correlation_id: What ties the answer to it.
        seconds: How long the answer is waited for, ``math.inf`` for ever.
        keeper: Who keeps it.
    """

    def __init__(self, service_name: str, method: str, correlation_id: str, seconds: float, keeper: CallKeeper) -> None:
        super().__init__()
        self.service_name = service_name
        self.method = method
        self.correlation_id = correlation_id
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.confirmation: Any = None
        """The transport's: what becomes of the request on its way."""
        self.alarm: Alarm | None = None
        """Ends it at its deadline, where nobody waits for it."""
        self.keeper = keeper
        self.decoded: Outcome | None = None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer and return what the target returned.

        Args:
            timeout: Seconds to wait at most; the call itself goes on. None: until its deadline.

        Raises:
            RPCTimeout: No answer within ``timeout``, or by the deadline.
            RemoteError: The target raised; registered exceptions come as themselves.
            UnknownService: No queue is bound for the service.
            ReplyQueueLost: The answer may be lost.
            PublishError: The request was not, or perhaps not, sent.
            concurrent.futures.CancelledError: It was cancelled.
        """
        outcome = self.outcome(timeout)
        if outcome.error is None:
            return outcome.result
        try:
            raise outcome.error
        finally:
            del self, outcome  # the error's traceback holds this frame, which must not hold the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, but returns what it would raise, None where it would return; its own ``timeout`` it raises."""
        return self.outcome(timeout).error

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for the answer; how the call ended.

        Raises:
            RPCTimeout: No answer within ``timeout``; the call goes on.
            concurrent.futures.CancelledError: It was cancelled.
        """
        error = self.wait_for_error(timeout)
        if error is not None:
            return Outcome(error=error)
        if self.decoded is None:  # two threads may do it twice, which does no harm
            self.decoded = self.keeper.decode(super().result())
        return self.decoded

    def wait_for_error(self, timeout: float | None) -> BaseException | None:
        """Wait until something has come; the error if it was one."""
        left = self.deadline - time.monotonic()
        seconds = left if timeout is None else min(timeout, left)
        try:
            return super().exception(None if seconds == math.inf else max(0.0, seconds))
        except TimeoutError:
            pass
        if timeout is not None and timeout < left:
            raise RPCTimeout(self.service_name, self.method, timeout, "its deadline has not passed, the call goes on")
        self.keeper.expire(self)
        return super().exception(RESOLVING)

    def cancel(self) -> bool:
        """Stop waiting. A request that has not been sent will not be; else the service may carry the call out.

        Returns:
            Whether that was before the answer came.
        """
        if not super().cancel():
            return False
        self.keeper.cancel(self)
        return True

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """What asyncio asks for since Python 3.14, where before it called `exception` and `result`."""
        if not self.done() or self.cancelled():
            return self.done(), self.cancelled(), None, None
        return True, False, *self.outcome()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn(self)`` when there is an outcome, or now if there is: on a thread of the client's for callbacks.

        There it may wait, and make calls itself; what it raises is logged.
        """
        keeper = self.keeper  # not self: the callbacks live as long as the future

        def done(future: Future[Any]) -> None:
            keeper.call_back(partial(fn, future))

        super().add_done_callback(done)
