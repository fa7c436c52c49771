"""From a configuration to its broker."""

import subprocess
import sys
from pathlib import Path

import pytest

from micro_framework.brokers.factory import broker_for
from micro_framework.brokers.memory import MemoryBroker
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.config import Settings

ROOT = Path(__file__).resolve().parents[2]


def settings(uri: str) -> Settings:
    return Settings.from_mapping({"AMQP_URI": uri, "HEARTBEAT": 7})


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("memory://", MemoryBroker),
        ("memory://shop", MemoryBroker),
        ("amqp://guest:s3cret@localhost:5672/shop", RabbitMQBroker),
        ("amqp://guest:s3cret@one:5672/shop;amqp://guest:s3cret@two:5672/shop", RabbitMQBroker),
    ],
)
def test_the_uri_chooses_the_broker(uri: str, kind: type) -> None:
    broker = broker_for(settings(uri))
    assert isinstance(broker, kind)
    assert "s3cret" not in broker.description + str(broker) + repr(broker)


def test_one_memory_uri_is_one_broker() -> None:
    assert broker_for(settings("memory://shop")) is broker_for(settings("memory://shop"))
    assert broker_for(settings("memory://shop")) is not broker_for(settings("memory://bank"))


def test_the_embedded_broker_needs_no_amqp_client() -> None:
    code = (
        "import sys\n"
        "from micro_framework.brokers.factory import broker_for\n"
        "from micro_framework.config import Settings\n"
        "broker_for(Settings.from_mapping({'AMQP_URI': 'memory://'}))\n"
        "print([name for name in ('kombu', 'amqp') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
