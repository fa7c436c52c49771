"""A private RabbitMQ with its management API, until Ctrl-C."""

import contextlib
import signal

from micro_framework.testing.rabbitmq import RabbitMQNode, free_port

port = free_port()
api = ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {port}"]

with contextlib.suppress(KeyboardInterrupt), RabbitMQNode(extra_config=api, plugins=["rabbitmq_management"]) as node:
    print(f"export AMQP_URI={node.vhost().uri}")
    print(f"export MANAGEMENT=http://127.0.0.1:{port}", flush=True)
    signal.pause()
