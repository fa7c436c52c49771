"""For tests of services: an instance with doubles, the service in a block, a clock to turn, a private RabbitMQ.

Nothing here is imported by the rest of the framework.
"""

from micro_framework.testing.clock import ManualClock
from micro_framework.testing.services import (
    WaitedCall,
    client_for,
    producer_for,
    running,
    wait_for,
    worker_for,
)

__all__ = ["ManualClock", "WaitedCall", "client_for", "producer_for", "running", "wait_for", "worker_for"]
