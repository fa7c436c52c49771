"""What the status page shows, as JSON: a snapshot with its numbers named."""

import json
import time
from collections.abc import Mapping
from typing import Any

from micro_framework.metrics.snapshots import (
    BUCKETS,
    CONNECTIONS,
    CONNECTIONS_BLOCKED,
    CONNECTIONS_UP,
    CONTEXT_WAITING,
    CONTEXT_WORKERS,
    COUNTS,
    LOSSES,
    PUBLISH_OUTCOMES,
    RECONNECTS,
    REMOTE_ERRORS,
    RPC_OUTCOMES,
    RUN_BUCKETS,
    RUN_SUM,
    SIDE_CONSUMERS,
    SIDE_LOOKS,
    SIDE_WAITING,
    WAIT_BUCKETS,
    WAIT_SUM,
    Row,
    Snapshot,
    running,
)
from micro_framework.observe.health import Health

__all__ = ["status"]


def status(snapshot: Snapshot, health: Health, about: Mapping[str, Any]) -> bytes:
    """What the page shows.

    Args:
        snapshot: What has been counted.
        health: How the process is.
        about: What does not change: ``since``, ``broker`` and so on.
    """
    content = {
        **about,
        "time": time.time(),
        "health": health.plain(),
        "bounds": BUCKETS,
        "routes": [route(key, row) for key, row in sorted(snapshot.routes.items())],
        "contexts": [
            {
                "context": context,
                "workers": row[CONTEXT_WORKERS],
                "waiting": row[CONTEXT_WAITING],
                "running": sum(running(each) for key, each in snapshot.routes.items() if key[2] == context),
            }
            for (context,), row in sorted(snapshot.contexts.items())
        ],
        "connections": [connection(name, row) for (name,), row in sorted(snapshot.connections.items())],
        "publishes": [
            {"kind": kind, "published": row[0], **dict(zip(PUBLISH_OUTCOMES, row[1:], strict=True))}
            for (kind,), row in sorted(snapshot.publishing.items())
        ],
        "rpc": [
            {
                "service": service,
                "method": method,
                **dict(zip(RPC_OUTCOMES, row, strict=False)),
                "remote_errors": row[REMOTE_ERRORS],
            }
            for (service, method), row in sorted(snapshot.rpc.items())
        ],
        "passed_on": [
            {"service": service, "method": method, "requests": row[0]}
            for (service, method), row in sorted(snapshot.passed_on.items())
        ],
        "sides": [
            {
                "service": service,
                "side": side,
                "waiting": row[SIDE_WAITING] / row[SIDE_LOOKS],
                "consumers": row[SIDE_CONSUMERS] / row[SIDE_LOOKS],
            }
            for (service, side), row in sorted(snapshot.sides.items())
        ],
        "errors": snapshot.errors,
    }
    return json.dumps(content).encode()


def route(key: tuple[str, ...], row: Row) -> dict[str, Any]:
    """One route."""
    service, name, context = key
    return {
        "service": service,
        "route": name,
        "context": context,
        **dict(zip(COUNTS, row, strict=False)),
        "running": running(row),
        "run": {"sum": row[RUN_SUM], "buckets": row[RUN_BUCKETS:]},
        "wait": {"sum": row[WAIT_SUM], "buckets": row[WAIT_BUCKETS:RUN_SUM]},
    }


def connection(name: str, row: Row) -> dict[str, Any]:
    """The connections of one name."""
    return {
        "name": name,
        "wanted": row[CONNECTIONS],
        "up": row[CONNECTIONS_UP],
        "blocked": row[CONNECTIONS_BLOCKED],
        "reconnects": row[RECONNECTS],
        "losses": row[LOSSES],
    }
