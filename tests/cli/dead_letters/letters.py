"""Parked messages for the tests of the command line, as the framework parks them."""

from dataclasses import replace
from datetime import UTC, datetime

from click.testing import CliRunner

from micro_framework.brokers.port import Publication
from micro_framework.calls import FailedAttempt
from micro_framework.cli import main
from micro_framework.parking import Failure, Parked, Place, Reason, parked_properties
from micro_framework.wire.messages import Properties

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class CardError(Exception):
    """What the messages failed with."""


def parked_record(**changes):
    """What the headers of a parked message say."""
    values = {
        "identifier": "0f3d8a52-0000-4000-8000-000000000001",
        "queue": "jobs",
        "service": "orders",
        "method": "refund",
        "exchange": "payments.events",
        "routing_key": "refunded",
        "reason": "failed",
        "error": "orders.CardError",
        "text": "expired",
        "callback": "",
        "traceback": "Traceback (most recent call last):\n  ...\norders.CardError: expired\n",
        "attempts": 4,
        "crashes": 0,
        "first": NOW,
        "last": NOW,
        "call_id": "orders.refund.1",
        "history": (FailedAttempt(3, NOW, "CardError", "expired"),),
        "withheld": {},
        "headers": {"own": 1},
    }
    return Parked(**(values | changes))


def parked_message(
    number=0, *, queue="jobs", service="orders", method="refund", error=None, when=NOW, body=None, headers=None
):
    """A message as it is parked in ``<queue>.parked``; its id begins with its number in eight digits."""
    properties = Properties("application/json", "utf-8", headers or {"own": number}, 2, correlation_id="c-1")
    parked = parked_properties(
        properties,
        Place(queue, service, method, "payments.events", "refunded"),
        Failure(Reason.FAILED, error or CardError(f"expired {number}"), when, retries=3, call_id="orders.refund.1"),
        identifier=f"{number:08d}-0000-4000-8000-000000000000",
        traceback="Traceback (most recent call last):\n  File ...\nCardError: expired\n",
    )
    return Publication("", f"{queue}.parked", body or str(number).encode(), parked, mandatory=True)


def unknown_message(queue="jobs"):
    """Something else in a queue of parked messages."""
    return replace(parked_message(queue=queue), body=b"unknown", properties=Properties())


def command(*arguments, answer=None):
    """Run ``micro-framework dead-letters``; its exit code, stdout and stderr."""
    result = CliRunner().invoke(main, ["dead-letters", *arguments], input=answer, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr
