"""What services would declare, found out without a broker."""

from micro_framework.amqp.dependencies import Producer, RPCProxy
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.cli.declared import declared_by
from micro_framework.dependencies import Dependency
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import route
from micro_framework.runner import Runner

QUEUE = "evt-payments-refunded--declared.refund"


class Untouched(Dependency[str]):
    """A user's own."""

    def setup(self) -> None:
        raise AssertionError("only the framework's extensions are set up")


class Declared:
    name = "declared"
    own = Untouched()
    dispatch = Producer()
    payments = RPCProxy("payments")

    @RPCListener()
    def create(self) -> None: ...

    @route(EventListener("payments", "refunded"), backoff=AsyncBackOff(max_retries=1, interval=10), dead_letter=True)
    def refund(self, payload: object) -> None: ...


def test_queues_exchanges_and_what_is_done_with_them() -> None:
    for mode in ("thread", "process"):
        wanted = declared_by(Runner([Declared], {"AMQP_URI": "amqp://localhost", "WORKER_MODE": mode}).assembly)
        assert {"rpc-declared", QUEUE, f"{QUEUE}.parked"} <= wanted.queues.keys()
        assert {"rpc-declared", QUEUE} <= wanted.consumed
        assert wanted.exchanges.keys() == {"nameko-rpc", "payments.events", "declared.events"}
        assert wanted.published == {"", "nameko-rpc", "declared.events"}
        assert wanted.delayed == {QUEUE}
        assert not wanted.plugin


def test_with_the_plugin_no_queues_hold_messages_back() -> None:
    wanted = declared_by(Runner([Declared], {"AMQP_URI": "amqp://localhost", "RETRY_BACKEND": "plugin"}).assembly)
    assert (wanted.delayed, wanted.plugin) == (set(), True)
