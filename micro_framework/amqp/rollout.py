"""``rollout=``: of a method that was moved, a share of the requests runs on the new side, the rest on the old one.

A request of the rest is published again, untouched but for one header, to where the gate sends what was not moved, and
acknowledged once the broker has confirmed the copy. That header is why no request goes round: one that was passed on
and comes back all the same runs here. See `micro_framework.wire.takeover` for the picture.

Which way a request goes is in its correlation id, so one that is delivered again goes the same way.
"""

from dataclasses import replace
from zlib import crc32

from micro_framework.brokers.port import Delivery, Publication
from micro_framework.wire.takeover import Names

__all__ = ["PASSED_ON", "Rollout", "rollout_problem"]

PASSED_ON = "mf-passed-on"
"""The header of a request that was passed on."""
ALL = 2**32


class Rollout:
    """Tells the requests of one method that run here from those that are passed on. Thread safe.

    Args:
        share: How much runs here, from 0 (nothing) to 1 (everything).
        names: The takeover.
    """

    def __init__(self, share: float, names: Names) -> None:
        self.bound = share * ALL
        self.rest = names.rest

    def keeps(self, request: Delivery) -> bool:
        """Whether a request runs here."""
        try:
            correlation = str(request.properties.correlation_id)
            known = PASSED_ON in request.headers
        except Exception:  # noqa: BLE001 - what the client library cannot read must not end the connection's thread
            return True  # and is refused by the worker, as any such request
        return known or crc32(correlation.encode(errors="replace")) < self.bound

    def passed_on(self, request: Delivery) -> Publication:
        """A request as it is passed on; one that reaches no queue there is returned."""
        # The broker takes no user_id but our own.
        properties = replace(request.properties, headers={**request.headers, PASSED_ON: 1}, user_id=None)
        return Publication(self.rest, request.routing_key, request.body, properties, mandatory=True)


def rollout_problem(share: object, names: Names | None) -> str | None:
    """What is wrong with a share."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        return f"rollout must be a share from 0 to 1, such as 0.05, not {share!r}"
    if names is None:
        return "rollout= is for methods that are taken over from Nameko: declare LegacyService() on the class"
    return None
