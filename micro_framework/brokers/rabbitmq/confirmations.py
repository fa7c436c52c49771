"""A publish on its way: the message, and the broker's answer once it is known."""

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic

from micro_framework.brokers.port import Publication
from micro_framework.exceptions import PublishTimeout

__all__ = ["PendingPublish"]

logger = logging.getLogger(__name__)


class PendingPublish:
    """A publication and its outcome (`micro_framework.brokers.port.Confirmation`). Thread safe.

    The first outcome wins. A bare lock is the cheapest way to wait for one; an Event costs several times that.

    Args:
        publication: What is published.
        pack: Gives the frames to write, for a frame size; raises PublishError.
        confirm: Whether the broker's confirm is waited for, or only the writing.
        state: Tells why there is no answer yet, for the error's text.
        queue: For a delay: the queue it goes to in the end.
        back_through: For a delay: the exchange it comes back through.
        more_tries: How often it is sent again if the broker refuses it (``basic.nack``).
    """

    __slots__ = (
        "_callbacks",
        "_claim",
        "_done",
        "_error",
        "_frame_max",
        "_frames",
        "_known",
        "_pack",
        "_state",
        "back_through",
        "confirm",
        "more_tries",
        "publication",
        "queue",
        "written",
    )

    def __init__(
        self,
        publication: Publication,
        pack: Callable[[int], bytes],
        confirm: bool,
        state: Callable[[], str],
        queue: str | None = None,
        back_through: str = "",
        more_tries: int = 0,
    ) -> None:
        self.publication = publication
        self.confirm = confirm
        self.queue = queue
        self.back_through = back_through
        self.more_tries = more_tries
        self.written = False
        self._pack = pack
        self._state = state
        self._frames = b""
        self._frame_max = 0
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[BaseException | None], None]] = []
        self._known = False
        self._claim = Lock()  # taken by the first outcome, for ever
        self._done = Lock()  # held until the outcome is known
        self._done.acquire()

    def frames(self, frame_max: int) -> bytes:
        """The bytes to write; packed once, by the thread that publishes, unless the frame size changes.

        Raises:
            PublishError: It cannot be packed.
        """
        if self._frame_max != frame_max:
            self._frames = self._pack(frame_max)
            self._frame_max = frame_max
        return self._frames

    def pack_again(self) -> None:
        """Forget the packed frames: what they depend on has changed."""
        self._frame_max = 0

    @property
    def is_done(self) -> bool:
        """Whether an outcome was decided."""
        return self._claim.locked()

    def finish(self, error: BaseException | None) -> bool:
        """Set the outcome, None for success; whether it was the first."""
        if not self._claim.acquire(blocking=False):
            return False
        self._error = error
        self._known = True
        self._done.release()
        if self._callbacks:
            self._call_back()
        return True

    def give_up(self, why: str) -> None:
        """Finish without an answer.

        Args:
            why: What kept the answer from coming.
        """
        self.finish(PublishTimeout(self._without_answer(why)))

    def wait(self, deadline: float) -> None:
        if not self._known and not self.wait_quietly(deadline):
            self.give_up(self._state())
            self._done.acquire()  # whoever was first holds it only until the error is in its place
            self._done.release()
        if self._error is not None:
            raise self._error

    def wait_quietly(self, deadline: float) -> bool:
        """Wait for the outcome without giving up on it; whether it is known."""
        if not self._done.acquire(timeout=max(0.0, deadline - monotonic())):
            return False
        self._done.release()  # for the next one who waits
        return True

    def _without_answer(self, why: str) -> str:
        what = f"the message for exchange {self.publication.exchange!r}, routing key {self.publication.routing_key!r}"
        if self.queue is not None:
            what = f"the delayed message for queue {self.queue!r}"
        if self.written:
            return f"the broker did not confirm {what} in time ({why}); it may have been delivered"
        return f"{what} was not sent in time ({why}), and will not be"

    def add_done_callback(self, callback: Callable[[BaseException | None], None]) -> None:
        self._callbacks.append(callback)
        if self._known:  # `_done` says it too, except while somebody who waits holds it for a moment
            self._call_back()

    def _call_back(self) -> None:
        # The thread that learnt the outcome and one that comes later may both be here: each callback is popped once.
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self._error)
            except Exception:  # it must not raise; if it does, the others still hear
                logger.exception("a callback of a publish raised, and callbacks must not")
