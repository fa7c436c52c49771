"""Lanes: RPC methods of one service that run in several contexts share its queue, and must not hold up each other.

Every context has a share of the requests that the service takes at once. A request for a context whose share is taken
does not wait here, where it would keep others from coming: it is moved to a queue that this context alone consumes,
``rpc-<service>.<context>``. The copy is confirmed before the original is acknowledged. A service whose methods run in
one context has no lanes.
"""

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from typing import Any

from micro_framework.amqp.parking import copy_of
from micro_framework.brokers.port import Delivery, Publication, Verdict
from micro_framework.parking import ORIGIN_KEY
from micro_framework.wire.messages import Properties
from micro_framework.wire.naming import Queue

__all__ = ["Lane", "LaneRequest", "lane_queue", "moved_key"]


def lane_queue(service: str, context: str) -> Queue:
    """The queue of the requests that were moved to a context."""
    return Queue(f"rpc-{service}.{context}")


def moved_key(request: Delivery) -> str:
    """The routing key of a request that was moved, as it was sent with."""
    return str(request.headers.get(ORIGIN_KEY, request.routing_key))


class Lane:
    """The share of one context. Thread safe.

    Args:
        queue: Where requests beyond it go.
        share: How many requests of the service's own queue it may have at once.
    """

    def __init__(self, queue: Queue, share: int) -> None:
        self.queue = queue
        self.share = share
        self.taken = 0
        self.counting = Lock()

    def enter(self) -> bool:
        """Count one more request, if the share allows it."""
        with self.counting:
            if self.taken >= self.share:
                return False
            self.taken += 1
            return True

    def leave(self) -> None:
        """A request is done."""
        with self.counting:
            self.taken -= 1

    def moved(self, request: Delivery) -> Publication:
        """A request as it is moved to the lane's queue."""
        return replace(copy_of(request, {}), routing_key=self.queue.name)


class LaneRequest:
    """A request (`micro_framework.brokers.port.Delivery`) that is counted, or was moved and has its own key again.

    Args:
        request: As it was delivered.
        routing_key: As it was sent with.
        lane: Where it is counted, None for nowhere.
    """

    __slots__ = ("lane", "request", "routing_key", "settling")

    def __init__(self, request: Delivery, routing_key: str, lane: Lane | None) -> None:
        self.request = request
        self.routing_key = routing_key
        self.lane = lane
        self.settling = Lock()  # taken for good by the first verdict

    @property
    def body(self) -> bytes:
        return self.request.body

    @property
    def content_type(self) -> str | None:
        return self.request.content_type

    @property
    def content_encoding(self) -> str | None:
        return self.request.content_encoding

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.request.headers

    @property
    def properties(self) -> Properties:
        return self.request.properties

    @property
    def exchange(self) -> str:
        return self.request.exchange

    @property
    def queue(self) -> str:
        return self.request.queue

    @property
    def redelivered(self) -> bool:
        return self.request.redelivered

    def settle(self, verdict: Verdict) -> None:
        self.request.settle(verdict)
        if self.lane is not None and self.settling.acquire(blocking=False):
            self.lane.leave()
