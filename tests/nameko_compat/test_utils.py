"""Nameko's helpers."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from nameko_compat.log_helpers import make_timing_logger
from nameko_compat.utils import REDACTED, get_redacted_args, import_from_path, sanitize_url


class Orders:
    def pay(self, card: Any, amount: int = 1) -> None: ...


def redacted(sensitive: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    container = SimpleNamespace(service_cls=Orders)
    entrypoint = SimpleNamespace(container=container, method_name="pay", sensitive_arguments=sensitive)
    return get_redacted_args(entrypoint, *args, **kwargs)


@pytest.mark.parametrize(
    ("sensitive", "card", "shown"),
    [
        ((), "4711", "4711"),
        ("card", "4711", REDACTED),
        (("card.number",), {"number": "4711", "name": "x"}, {"number": REDACTED, "name": "x"}),
        ("card.numbers[1]", {"numbers": [1, 2]}, {"numbers": [1, REDACTED]}),
        ("card.nothing", {"number": 1}, {"number": 1}),
        ("card.number.deeper", {"number": 1}, {"number": 1}),
        ("other", "4711", "4711"),
    ],
)
def test_sensitive_arguments_are_not_shown(sensitive: Any, card: Any, shown: Any) -> None:
    assert redacted(sensitive, card, amount=2) == {"card": shown, "amount": 2}


def test_the_arguments_themselves_stay_as_they_are() -> None:
    card = {"number": 1}
    redacted("card.number", card)
    assert card == {"number": 1}


def test_a_dotted_path_is_imported() -> None:
    assert import_from_path("nameko_compat.utils.REDACTED") == REDACTED
    assert import_from_path(None) is None
    with pytest.raises(ImportError, match="`nameko_compat.nothing` could not be imported"):
        import_from_path("nameko_compat.nothing")


def test_no_password_is_left_in_an_address() -> None:
    assert sanitize_url("amqp://me:secret@host:5672/v") == f"amqp://me:{REDACTED}@host:5672/v"
    assert sanitize_url("amqp://host/v") == "amqp://host/v"


def test_the_time_that_a_block_took_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), make_timing_logger(logging.getLogger("timed"), precision=1)("ran %s", "it"):
        pass
    assert caplog.messages == ["ran it in 0.0s"]
