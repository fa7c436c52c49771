"""The latest errors: bounded, shortened, and without secrets."""

import pytest

from micro_framework.metrics.recent import MOST_ERRORS, RecentErrors, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach amqp://bob:hunter2@rabbit:5672/",
        "postgresql+psycopg://bob:hunter2@db/x refused",
        "login failed: password=hunter2",
        "{'password': 'hunter2', 'user': 'bob'}",
        'the body was {"api_key": "hunter2"}',
        "Authorization: Bearer hunter2",
        "token hunter2 is not known",
    ],
)
def test_what_is_called_a_secret_is_not_shown(text):
    shown = without_secrets(text)
    assert "hunter2" not in shown
    assert "********" in shown


def test_a_secret_that_is_known_is_not_shown_wherever_it_stands():
    assert without_secrets("it says xyzzyplugh here", ["xyzzyplugh"]) == "it says ******** here"


def test_what_is_no_secret_stays():
    text = "order 7 at https://shop.example:443/orders was declined: card 12 <b>"
    assert without_secrets(text) == text


def test_texts_are_short_and_only_the_latest_are_kept():
    recent = RecentErrors()
    for number in range(MOST_ERRORS + 5):
        recent.note("shop", "sell", f"id-{number}", "failed", ValueError("x" * 1_000_000))
    latest = recent.latest()
    assert len(latest) == MOST_ERRORS
    assert latest[-1]["call_id"] == f"id-{MOST_ERRORS + 4}"
    assert all(len(error["text"]) <= 300 for error in latest)


def test_an_error_whose_text_cannot_be_had_is_noted_all_the_same():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError("no")

    recent = RecentErrors()
    recent.note("shop", "sell", None, "failed", Broken())
    (error,) = recent.latest()
    assert (error["type"], error["text"]) == ("Broken", "(its text cannot be had: RuntimeError)")
