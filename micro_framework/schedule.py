"""When a timer fires next: pure arithmetic on times that the caller gives."""

import math
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["CRON_FIELDS", "cron_problem", "next_in_cron", "next_multiple", "next_on_grid"]

CRON_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
"""The fields of a cron expression, in order."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def next_on_grid(start: float, interval: float, now: float) -> float:
    """The first point of the grid ``start + n * interval`` (n >= 1) that lies after ``now``.

    The grid is fixed at the start, so a late tick does not shift the ones after it; points that have passed are
    skipped.

    Args:
        start: Seconds on any clock, the grid's origin.
        interval: Seconds, greater than 0.
        now: Seconds on the same clock.
    """
    steps = max(1, math.floor((now - start) / interval) + 1)
    return start + steps * interval


def next_multiple(interval: float, after: datetime) -> datetime:
    """The first whole multiple of an interval since 1970 that lies after a time: a grid that all machines share.

    Args:
        interval: Seconds, at least one microsecond.
        after: An aware datetime.

    Returns:
        Aware UTC.
    """
    step = timedelta(seconds=interval)
    return EPOCH + ((after - EPOCH) // step + 1) * step


def next_in_cron(expression: str, zone: tzinfo, after: datetime) -> datetime:
    """The first time after another one at which a cron expression is due.

    Clock changes are handled as Debian's cron does. A time of day that a change leaves out is due right after the gap,
    once; one that comes twice is due the first time. Expressions whose minute or hour begins with ``*`` simply follow
    the clock: what they say of a skipped hour is left out, and of a repeated one is due twice.

    Args:
        expression: Five fields, see `CRON_FIELDS`.
        zone: The time zone that they are meant in.
        after: An aware datetime.

    Returns:
        Aware UTC.

    Raises:
        ValueError: It is never due within 50 years.
        CronSimError: It is no cron expression.
    """
    from cronsim import CronSim  # here, for most services have no such timer, and it costs the start

    # Compared as UTC: aware datetimes of one zone are compared by what the clock on the wall shows.
    earliest = after.astimezone(UTC)
    for due in CronSim(expression, after.astimezone(zone)):
        # In the second half of a repeated hour the first half's points are found again.
        if (point := due.astimezone(UTC)) > earliest:
            return point
    raise ValueError(f"cron={expression!r} is never due")


def cron_problem(expression: str) -> str | None:
    """What is wrong with a cron expression, None if nothing is."""
    if len(expression.split()) != len(CRON_FIELDS):
        return f"it has {len(expression.split())} fields and needs five: {', '.join(CRON_FIELDS)}"
    from cronsim import CronSimError

    try:
        next_in_cron(expression, UTC, EPOCH)
    except CronSimError as error:
        return str(error)
    except ValueError:
        return "no day within 50 years fits it"
    return None
