"""``timer``: calls a method at fixed intervals."""

from typing import Any

from nameko_compat.adapters import TimerAdapter
from nameko_compat.extensions import Entrypoint

__all__ = ["Timer", "timer"]

SHORTEST = 0.001
"""Seconds that stand for no interval at all."""


class Timer(Entrypoint):
    """Calls the method every so many seconds, never while it still runs.

    Args:
        interval: Seconds; 0: again as soon as it has ended.
        eager: Whether to call it at the start too.
        options: ``expected_exceptions``, ``sensitive_arguments``.
    """

    not_called = ("handle_result", "handle_timer_tick")

    def __init__(self, interval: float, eager: bool = False, **options: Any) -> None:
        self.interval = interval
        self.eager = eager
        super().__init__(**options)

    def route_entrypoint(self) -> Any:
        """What ticks."""
        return TimerAdapter(self.interval or SHORTEST, self.eager)


timer = Timer.decorator
