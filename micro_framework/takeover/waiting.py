"""Calls that waited at the old side before their method was moved: they are sent the way of today's calls.

A switch decides by when a call was published, not by when it runs. A call that waits in the old queue would run on the
old side, however long its method has been moved. So it is published again, untouched, to the exchange it once came to,
and acknowledged once the broker has confirmed the copy. Killed between the two, the call is in both places.
"""

from collections.abc import Collection
from dataclasses import replace

from micro_framework.brokers.errand import Errand
from micro_framework.brokers.port import Publication
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError, PublishError
from micro_framework.wire.takeover import Names

__all__ = ["send_on"]


def send_on(settings: Settings, names: Names, methods: Collection[str]) -> int:
    """Send on what waits for these methods now; calls of others go back to their places.

    Args:
        settings: How to reach the broker.
        names: The takeover.
        methods: Methods that run on the new side.

    Returns:
        How many calls were sent on.

    Raises:
        BrokerError: No connection, or some could not be sent on; these are where they were.
    """
    keys = {names.key(method) for method in methods}
    errors: list[PublishError | None] = []
    with Errand(settings, f"takeover-{names.service}") as errand:
        # Counted once: a call of another method that goes back must not be met again.
        waiting = errand.browser.count(names.old, errand.deadline()) or 0
        for ahead in reversed(range(waiting)):
            delivery = errand.browser.get(names.old, errand.deadline(), ahead)
            if delivery is None:
                break
            if delivery.routing_key in keys:
                properties = replace(delivery.properties, user_id=None)  # the broker takes none but our own
                copy = Publication(names.main, delivery.routing_key, delivery.body, properties, mandatory=True)
                errand.publish(copy, delivery, errors.append)
        errand.release()
    failed = [error for error in errors if error is not None]
    if failed:
        raise BrokerError(f"{len(failed)} waiting calls could not be sent on and are where they were: {failed[0]}")
    return len(errors)
