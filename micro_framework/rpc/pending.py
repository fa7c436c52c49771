"""`PendingCalls`: every call of a client that waits for its answer, and the clock that ends those nobody asks about."""

import math
import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from functools import partial
from typing import Any

from micro_framework.calls import Outcome
from micro_framework.clock import SystemClock
from micro_framework.exceptions import RPCTimeout
from micro_framework.rpc.callbacks import CallbackThreads
from micro_framework.rpc.futures import RPCFuture

__all__ = ["PendingCalls"]


class PendingCalls:
    """Calls by their correlation id (`micro_framework.rpc.futures.CallKeeper`). Thread safe.

    Whoever takes a call out of the table gives it its outcome, so each gets exactly one.

    Args:
        name: Part of the names of its threads.
        decode: Makes an outcome of an answer; must not raise.
        give_up: Told of a call that ends without an answer, which it need not get any more; says what is known of it.
    """

    def __init__(self, name: str, decode: Callable[[Any], Outcome], give_up: Callable[[RPCFuture], str]) -> None:
        self.decode = decode
        self.give_up = give_up
        self.calls: dict[str, RPCFuture] = {}
        self.clock = SystemClock(f"mf-{name}-deadlines")
        self.callbacks = CallbackThreads(f"mf-{name}-callbacks")
        self.call_back = self.callbacks.submit

    def __len__(self) -> int:
        return len(self.calls)

    def add(self, call: RPCFuture) -> None:
        """Keep a call until it has an outcome."""
        self.calls[call.correlation_id] = call

    def watch(self, call: RPCFuture) -> None:
        """End a call at its deadline though nobody waits for it. Call before it is sent."""
        if call.deadline < math.inf:
            self.clock.start()
            call.alarm = self.clock.call_at(call.deadline, partial(self.expire, call))

    def answer(self, correlation_id: str | None, answer: Any) -> bool:
        """Give a call its answer.

        Returns:
            Whether there is such a call.
        """
        call = self.take(correlation_id)
        if call is None:
            return False
        try:
            call.set_result(answer)
        except InvalidStateError:
            call.set_running_or_notify_cancel()  # cancelled at this moment
            return False
        return True

    def fail(self, correlation_id: str, error: Callable[[RPCFuture], BaseException]) -> None:
        """Give a call an error, if it has no outcome."""
        call = self.take(correlation_id)
        if call is not None:
            try:
                call.set_exception(error(call))
            except InvalidStateError:
                call.set_running_or_notify_cancel()  # cancelled at this moment

    def fail_all(
        self, error: Callable[[RPCFuture], BaseException], those: Callable[[RPCFuture], bool] = lambda call: True
    ) -> None:
        """Give calls an error.

        Args:
            error: Makes it.
            those: Whether it is for a call; the others go on waiting.
        """
        for call in list(self.calls.values()):
            if those(call):
                self.fail(call.correlation_id, error)

    def expire(self, call: RPCFuture) -> None:
        """Give a call an `RPCTimeout`, if it has no outcome."""
        self.fail(call.correlation_id, self.timeout)

    def timeout(self, call: RPCFuture) -> RPCTimeout:
        """The error of a call whose deadline has passed."""
        return RPCTimeout(call.service_name, call.method, call.seconds, self.give_up(call))

    def cancel(self, call: RPCFuture) -> None:
        """Nobody wants its answer any more."""
        if self.take(call.correlation_id) is not None:
            call.set_running_or_notify_cancel()  # those in concurrent.futures.wait hear of it
            self.give_up(call)

    def forget(self, call: RPCFuture) -> None:
        """It was never sent, and whoever made it knows."""
        self.take(call.correlation_id)

    def take(self, correlation_id: str | None) -> RPCFuture | None:
        """Take a call out of the table, None where it is not there (any more)."""
        call = self.calls.pop(correlation_id, None) if correlation_id is not None else None
        if call is not None and call.alarm is not None:
            call.alarm.cancel()
        return call

    def stop(self, deadline: float) -> None:
        """Tell who wanted to be told of a call's end, and end the threads. Call when no call is left.

        Args:
            deadline: ``time.monotonic()`` seconds after which a callback that does not return is left alone.
        """
        self.clock.stop()
        self.callbacks.stop(max(deadline, time.monotonic()))
