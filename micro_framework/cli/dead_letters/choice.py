"""Which parked messages are meant: times as people write them, and the filters. Pure: the time is an argument."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from micro_framework.parking import Parked

__all__ = ["Choice", "moment"]

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
ago = re.compile(r"(\d+)([smhd])")


def moment(text: str, now: datetime) -> datetime:
    """A point in time: ISO (without a zone it is UTC), or so long ago, as in ``90s``, ``15m``, ``2h`` and ``3d``.

    Args:
        text: What somebody wrote.
        now: Aware UTC.

    Raises:
        ValueError: It is neither.
    """
    if found := ago.fullmatch(text):
        return now - timedelta(**{UNITS[found[2]]: int(found[1])})
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Choice:
    """The messages that are meant: those for which everything holds that is said.

    Args:
        ids: Beginnings of their ids, any of which will do.
        error: The error's class, by its name or with its module.
        service: The service's name.
        method: The target's name.
        since: Parked then or later.
        until: Parked then or earlier.
    """

    ids: tuple[str, ...] = ()
    error: str | None = None
    service: str | None = None
    method: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, parked: Parked) -> bool:
        """Whether a message is meant; one whose time cannot be read is not, where a time is asked for."""
        return (
            (not self.ids or parked.identifier.startswith(self.ids))
            and self.error in (None, parked.error, parked.error.rpartition(".")[2])
            and self.service in (None, parked.service)
            and self.method in (None, parked.method)
            and (self.since is None or (parked.last is not None and parked.last >= self.since))
            and (self.until is None or (parked.last is not None and parked.last <= self.until))
        )
