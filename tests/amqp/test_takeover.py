"""`LegacyService`: where a class is called, and what it keeps away."""

import pytest

from micro_framework.amqp.dependencies import LegacyService
from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.exceptions import ConfigError, MicroFrameworkError
from micro_framework.runner import Runner
from micro_framework.testing.broker_state import BindingState, VHost
from micro_framework.wire.takeover import Names

NAMES = Names("orders")


class Orders:
    name = "orders"
    legacy = LegacyService()

    @RPCListener()
    def alpha(self) -> str:
        return self.legacy.gate


class Plain:
    name = "orders"

    @RPCListener()
    def alpha(self) -> str:
        return "plain"


def is_direct(binding: BindingState) -> bool:
    return (binding.source, binding.destination) == (NAMES.main, NAMES.old)


def test_it_consumes_its_own_queue_and_leaves_the_old_one_alone(rabbit: VHost) -> None:
    with Runner([Orders], {"AMQP_URI": rabbit.uri}):
        rabbit.wait_for_consumers(NAMES.new)
        assert rabbit.consumers(NAMES.old) == 0
        assert not any(map(is_direct, rabbit.bindings()))
        assert rabbit.exchanges()[NAMES.gate].arguments == {"alternate-exchange": NAMES.rest}


def test_it_heals_only_while_that_is_wanted(rabbit: VHost) -> None:
    from kombu import Connection, Queue

    with Runner([Plain], {"AMQP_URI": rabbit.uri}):
        pass
    with Connection(rabbit.uri) as connection, Runner([Orders], {"AMQP_URI": rabbit.uri}) as runner:
        assert any(map(is_direct, rabbit.bindings()))
        Queue(NAMES.healing, queue_arguments={"x-max-length": 1})(connection.default_channel).declare()
        rabbit.wait_for(lambda _: not any(map(is_direct, rabbit.bindings())), what="the binding to go")
        runner.stop()
        with Runner([Plain], {"AMQP_URI": rabbit.uri}):  # a stray
            assert any(map(is_direct, rabbit.bindings()))
            with Runner([Orders], {"AMQP_URI": rabbit.uri}):
                rabbit.wait_for(lambda _: not any(map(is_direct, rabbit.bindings())), what="the binding to go again")


def test_it_is_refused_on_the_broker_in_memory() -> None:
    with pytest.raises((ConfigError, MicroFrameworkError), match="no broker that Nameko knows"):
        Runner([Orders], {"AMQP_URI": "memory://"})
