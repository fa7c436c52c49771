"""Telling another process what has been counted here: every second, and once more at the end."""

import threading
from collections.abc import Callable

__all__ = ["REPORT_SECONDS", "Reporting"]

REPORT_SECONDS = 1.0
END_SECONDS = 5.0


class Reporting:
    """A thread that reports while the process runs.

    Args:
        report: Tells; it may wait for a few seconds, and must not raise.
    """

    def __init__(self, report: Callable[[], object]) -> None:
        self.report = report
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="mf-metrics-report", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """Report for the last time and end the thread. Idempotent."""
        self.ended.set()
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join(END_SECONDS)

    def run(self) -> None:
        """The thread."""
        while not self.ended.wait(REPORT_SECONDS):
            self.report()
        self.report()
