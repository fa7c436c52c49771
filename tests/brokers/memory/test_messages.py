from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from micro_framework.brokers.memory.messages import delayed_message, published_message
from micro_framework.brokers.port import Publication
from micro_framework.exceptions import PublishError
from micro_framework.wire.messages import Properties

NAIVE = datetime(2024, 2, 29, 12, 30, 45)


def publication(**properties: object) -> Publication:
    return Publication("events", "key", b"body", Properties(**properties))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (None, None),
        (True, True),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (Decimal("1.20"), Decimal("1.20")),
        (("a", ("b",)), ["a", ["b"]]),
        (b"utf-8", "utf-8"),
        (b"\xff", b"\xff"),
        ({"a": (1,)}, {"a": [1]}),
        (NAIVE.replace(microsecond=999_999), NAIVE),
        (NAIVE.replace(tzinfo=UTC), NAIVE),
        (NAIVE.replace(tzinfo=timezone(timedelta(hours=2))), NAIVE - timedelta(hours=2)),
    ],
)
def test_header_values_become_what_py_amqp_reads_back(sent: object, found: object) -> None:
    travelled = published_message(publication(headers={"h": sent})).properties.headers["h"]
    assert (type(travelled), travelled) == (type(found), found)


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({"h": {1, 2}}, "header 'h' cannot"),
        ({"h": UUID(int=7)}, "UUID"),
        ({"h": 2**63}, "int"),
        ({"outer": {"inner": [object()]}}, "header 'outer' 'inner' cannot"),
    ],
)
def test_what_amqp_cannot_carry_is_refused_naming_the_header(headers: dict[str, object], where: str) -> None:
    with pytest.raises(PublishError, match=where):
        published_message(publication(headers=headers))


def test_tables_are_copied_to_the_ground() -> None:
    inner = {"list": [1]}
    message = published_message(publication(headers={"inner": inner}))
    inner["list"].append(2)
    assert message.properties.headers == {"inner": {"list": [1]}}


@pytest.mark.parametrize(("expiration", "seconds"), [(None, None), ("0", 0), ("1500", 1.5)])
def test_an_expiration_is_milliseconds_as_text(expiration: str | None, seconds: float | None) -> None:
    assert published_message(publication(expiration=expiration)).expires_in == seconds


@pytest.mark.parametrize("expiration", ["soon", "1.5", "-1", ""])
def test_another_expiration_is_refused_as_rabbitmq_does(expiration: str) -> None:
    with pytest.raises(PublishError, match="milliseconds"):
        published_message(publication(expiration=expiration))


def test_a_delayed_message_loses_what_would_expire_or_mark_it() -> None:
    ours = {"x-mine": 1, "x-deathly": 2, "nameko.call_id_stack": ["a"]}
    brokers = {"x-death": [], "x-delivery-count": 1, "x-first-death-queue": "q", "x-last-death-reason": "expired"}
    message = delayed_message(publication(headers={**ours, **brokers}, expiration="5", delivery_mode=2), "", "jobs")
    assert message.properties == Properties(headers=ours, delivery_mode=2)
    assert (message.exchange, message.routing_key, message.expires_in) == ("", "jobs", None)
