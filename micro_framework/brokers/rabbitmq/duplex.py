"""The door that consumes and publishes on one connection: RPC servers and clients.

A server's reply and the acknowledgement that its confirm releases travel on one connection, and so do a client's
request and the answer to it: one reading thread handles both, and no thread is woken in between. Each half has channels
of its own, so a channel that the broker closes under one leaves the other alone.
"""

from collections.abc import Sequence

from micro_framework.brokers.port import Publication, Subscription
from micro_framework.brokers.rabbitmq.confirmations import PendingPublish
from micro_framework.brokers.rabbitmq.connection import LinkConnection
from micro_framework.brokers.rabbitmq.consumer import RabbitMQConsumer
from micro_framework.brokers.rabbitmq.declarations import Adoptions
from micro_framework.brokers.rabbitmq.link import LinkedDoor, LinkFor
from micro_framework.brokers.rabbitmq.publisher import RabbitMQPublisher
from micro_framework.exceptions import BrokerRefused
from micro_framework.wire.naming import Exchange, Queue

__all__ = ["RabbitMQDuplex"]

CONSUME_CHANNEL = 4
"""Behind those of the publishing half."""


class RabbitMQDuplex(LinkedDoor):
    """A connection for both (`micro_framework.brokers.port.Duplex`); opened once, never again after `stop`.

    Args:
        link_for: Gives the connection.
        adoptions: Who tells of exchanges with other flags.
        delayed_by_plugin: Whether the broker's plugin holds back what is delayed, and not queues.
    """

    def __init__(self, link_for: LinkFor, adoptions: Adoptions, *, delayed_by_plugin: bool = False) -> None:
        self._link = link_for(self)
        self._consuming = RabbitMQConsumer(lambda half: self._link, adoptions, channel=CONSUME_CHANNEL)
        self._publishing = RabbitMQPublisher(lambda half: self._link, adoptions, delayed_by_plugin=delayed_by_plugin)
        self._halves = (self._consuming, self._publishing)

    # The port.

    @property
    def ready(self) -> bool:
        return self._consuming.ready

    def wait_ready(self, deadline: float) -> bool:
        return self._consuming.wait_ready(deadline)

    def subscribe(self, subscription: Subscription) -> None:
        """Consume a queue once started.

        Raises:
            BrokerError: It was started already.
        """
        self._consuming.subscribe(subscription)

    def cancel(self, deadline: float) -> None:
        """Stop receiving; publishing goes on."""
        self._consuming.cancel(deadline)

    def counts(self, queue: str, deadline: float) -> bool:
        """Whether it is a quorum queue; asked of the broker once, where the declaration does not say."""
        return self._consuming.counts(queue, deadline)

    def declare(self, exchanges: Sequence[Exchange] = (), queues: Sequence[Queue] = ()) -> None:
        """Declare now if connected (waiting up to 10 s for that), and whenever the connection comes back."""
        self._publishing.declare(exchanges, queues)

    def ensure(self, queue: Queue, deadline: float) -> None:
        """Have a queue exist, whatever its flags.

        Raises:
            PublishError: It cannot be declared, or no answer came in time.
        """
        self._publishing.ensure(queue, deadline)

    def publish(self, publication: Publication, *, confirm: bool = True, more: bool = False) -> PendingPublish:
        """Publish without waiting; without a connection the message is sent when there is one.

        Raises:
            PublishError: It is not started, or not any more.
        """
        return self._publishing.publish(publication, confirm=confirm, more=more)

    def delay(
        self, publication: Publication, *, queue: str, delay: int, exchange: str = "", routing_key: str | None = None
    ) -> PendingPublish:
        """Have a message come back to a queue after ``delay`` milliseconds, rounded up to two significant digits.

        Raises:
            PublishError: It is not started, or not any more.
            ValueError: The delay is negative.
        """
        return self._publishing.delay(publication, queue=queue, delay=delay, exchange=exchange, routing_key=routing_key)

    def expect_delays(
        self, queue: Queue, delays: Sequence[int], *, exchange: str = "", routing_key: str | None = None
    ) -> None:
        """Find out the type of a queue whenever connected, and keep the delay queues of a quorum queue declared.

        Raises:
            BrokerError: It was started already.
        """
        self._publishing.expect_delays(queue, delays, exchange=exchange, routing_key=routing_key)

    def stop(self, deadline: float) -> None:
        """Wait for outstanding confirms, write the verdicts that are left, close the connection, end the thread."""
        self._publishing.finish(deadline)
        self._consuming.delete_own_queues(deadline)
        self._consuming.have_verdicts_taken_in(deadline)
        super().stop(deadline)

    # What the link asks, see `LinkOwner`.

    def set_up(self, connection: LinkConnection) -> None:
        """The consuming half first: an answer may come as soon as something is published."""
        for half in self._halves:
            half.set_up(connection)

    def has_output(self) -> bool:
        return self._publishing.has_output() or self._consuming.has_output()

    def take_output(self) -> bytes:
        return self._consuming.take_output() + self._publishing.take_output()

    def output_written(self) -> None:
        for half in self._halves:
            half.output_written()

    def lost(self, error: BaseException) -> None:
        for half in self._halves:
            half.lost(error)

    def ended(self, refusal: BrokerRefused | None) -> None:
        for half in self._halves:
            half.ended(refusal)
