"""The port that the configuration asks for."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from micro_framework.config import Settings, redact_uri
from micro_framework.metrics.snapshots import Snapshot
from micro_framework.observe.health import Health

if TYPE_CHECKING:
    from micro_framework.observe.server import ObserveServer

__all__ = ["about", "server_for"]


def about(settings: Settings, what: str) -> Mapping[str, Any]:
    """What the status page shows that does not change.

    Args:
        settings: The configuration.
        what: What runs here.
    """
    return {
        "what": what,
        "broker": redact_uri(settings.amqp_uri) if settings.amqp_uri else "",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.time(),
        "processes": settings.processes,
    }


def server_for(
    settings: Settings, what: str, snapshot: Callable[[], Snapshot], health: Callable[[], Health]
) -> "ObserveServer":
    """The port that the configuration asks for; it listens already.

    Raises:
        SetupFailed: It cannot be had.
    """
    from micro_framework.observe.server import ObserveServer  # here: nobody else pays for HTTP and prometheus_client

    at = settings.metrics
    return ObserveServer(at.host, at.port, snapshot, health, about(settings, what))
