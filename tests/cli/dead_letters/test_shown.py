"""How parked messages are shown."""

import json
import re
import sys

import pytest

from micro_framework.cli.dead_letters.desk import Letter
from micro_framework.cli.dead_letters.shown import as_json, as_row, as_text, print_table
from micro_framework.wire.messages import Properties
from tests.cli.dead_letters.letters import NOW, parked_record


class Taken:
    """A delivery that was taken from a queue."""

    queue = "jobs.parked"

    def __init__(self, body=b'{"order": 7}', **properties):
        self.body = body
        self.properties = Properties("application/json", "utf-8", {"mf-parked-id": "x"}, 2, **properties)


def letter(delivery=None, **changes):
    return Letter(delivery or Taken(correlation_id="c-1"), parked_record(**changes))


def test_a_message_is_a_row():
    assert as_row(letter()) == ("0f3d8a52", "2026-03-01 12:00:00", "orders.refund", "failed", "4", "CardError: expired")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"error": "TimeoutError", "text": ""}, "TimeoutError"),
        ({"text": "  first\nsecond"}, "CardError: first"),
        ({"text": "\x1b[31mred\x07"}, "CardError: \\x1b[31mred\\x07"),
        ({"text": "größer ✓"}, "CardError: größer ✓"),
    ],
)
def test_an_error_takes_one_line_and_no_control_characters(changes, shown):
    assert as_row(letter(**changes))[-1] == shown


def test_what_is_unknown_is_empty():
    assert as_row(letter(last=None))[1] == ""


def test_without_a_terminal_the_table_has_aligned_columns(capsys):
    print_table([as_row(letter()), as_row(letter(service="x", text="long " * 50))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ID        PARKED (UTC)         TARGET         REASON  ATTEMPTS  ERROR"
    assert lines[1] == "0f3d8a52  2026-03-01 12:00:00  orders.refund  failed  4         CardError: expired"
    assert lines[2].endswith("CardError: " + ("long " * 50).rstrip())


def test_on_a_terminal_the_table_fits(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table([as_row(letter(text="[red]long[/red] " * 20))])
    out = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 80
    assert "0f3d8a52" in out
    assert "[red]long" in out, "no markup of a stranger's is obeyed"


def test_everything_about_a_message():
    shown = "\n".join(
        as_text(
            letter(
                Taken(correlation_id="c-1"),
                callback="KeyError: 'mail'",
                withheld={"CC": ["a"]},
                text="first\nsecond",
                crashes=1,
            )
        )
    )
    assert (
        shown
        == f"""\
message 0f3d8a52-0000-4000-8000-000000000001
  target      orders.refund, call orders.refund.1
  queue       jobs, parked in jobs.parked
  sent to     exchange 'payments.events', routing key 'refunded'
  reason      failed; attempts: 4, crashes: 1
  failed      first {NOW.isoformat()}, last {NOW.isoformat()}
  error       orders.CardError: first
              second
  callback    KeyError: 'mail'
  properties  content_type='application/json', content_encoding='utf-8', delivery_mode=2, correlation_id='c-1'
  headers     own=1
  withheld    CC=['a']
  history
    attempt 4 at {NOW.isoformat()}: CardError: expired
  body, 12 bytes
    {{"order": 7}}
  traceback
    Traceback (most recent call last):
      ...
    orders.CardError: expired"""
    )


def test_what_is_not_there_is_not_shown():
    empty = letter(Taken(b""), call_id="", withheld={}, headers={}, history=(), traceback="", first=None)
    shown = "\n".join(as_text(empty))
    for title in ("call ", "callback", "headers", "withheld", "history", "body", "traceback"):
        assert title not in shown.replace("body, 0 bytes", "")
    assert "first unknown" in shown


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"x" * 2000, "x" * 2000),
        (b"x" * 2001, "x" * 2000 + "…"),
        ("ä".encode() * 5000, "ä" * 2000 + "…"),
        (b"\xff\x1b[2J", "\\xff\\x1b[2J"),
        (b"a\nb\tc", "a\n    b\tc"),
    ],
)
def test_a_body_is_shown_by_its_beginning_and_does_nothing_to_a_terminal(body, shown):
    assert f"  body, {len(body)} bytes\n    {shown}\n" in "\n".join(as_text(letter(Taken(body))))


def test_a_program_gets_one_object():
    found = json.loads(as_json(letter(), everything=False))
    assert found == {
        "id": "0f3d8a52-0000-4000-8000-000000000001",
        "parked_in": "jobs.parked",
        "queue": "jobs",
        "service": "orders",
        "method": "refund",
        "exchange": "payments.events",
        "routing_key": "refunded",
        "reason": "failed",
        "error": "orders.CardError",
        "text": "expired",
        "callback": None,
        "attempts": 4,
        "crashes": 0,
        "first": NOW.isoformat(),
        "last": NOW.isoformat(),
        "call_id": "orders.refund.1",
        "size": 12,
    }


@pytest.mark.parametrize(
    ("body", "shown"), [(b'{"a": 1}', ('{"a": 1}', "utf-8")), (b"\xff", ("/w==", "base64")), (b"", ("", "utf-8"))]
)
def test_a_program_gets_everything_if_it_asks(body, shown):
    line = as_json(letter(Taken(body), headers={"when": NOW, "raw": b"\xff", "n": 1}), everything=True)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["body"], found["body_encoding"]) == shown
    assert found["headers"] == {"when": NOW.isoformat(), "raw": "/w==", "n": 1}
    assert found["history"] == [{"attempt": 3, "when": NOW.isoformat(), "exc_type": "CardError", "text": "expired"}]
    assert found["properties"]["content_type"] == "application/json"
    assert found["traceback"].endswith("orders.CardError: expired\n")
