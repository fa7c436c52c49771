"""The commands as a user meets them: what they print, what they leave, and their exit codes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta

import pytest
from kombu import Queue as KombuQueue

from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.testing import running
from micro_framework.wire.naming import Queue
from tests.cli.dead_letters.letters import NOW, CardError, command, parked_message
from tests.outside import Outside, recording

PARKED = Queue("jobs.parked")
JOBS = Queue("jobs")
SECONDS = 30


@pytest.fixture
def look(broker_uri, outside):
    """Runs a command on a queue in which three messages are parked."""
    outside.doors.declare(PARKED, JOBS)
    errors = (CardError("expired 0"), TimeoutError("no answer"), CardError("expired 2"))
    for number, error in enumerate(errors):
        when = NOW + timedelta(hours=number)
        outside.doors.send(parked_message(number, error=error, when=when, method=("refund", "pay", "refund")[number]))

    def run(name, *arguments, answer=None):
        return command(name, "-q", "jobs", "--broker", broker_uri, *arguments, answer=answer)

    return run


def parked_in(outside, queue=PARKED):
    return [delivery.body.decode() for delivery in outside.take_all(queue)]


def ids_in(stdout):
    return [json.loads(line)["id"][:8] for line in stdout.splitlines()]


# -- list and show


def test_list_shows_a_row_a_message_and_leaves_all(look, outside):
    code, stdout, stderr = look("list")
    assert (code, stderr) == (0, "3 messages parked, 1 queue\n")
    header, *rows = stdout.splitlines()
    assert header.split() == ["ID", "PARKED", "(UTC)", "TARGET", "REASON", "ATTEMPTS", "ERROR"]
    assert [row.split()[0] for row in rows] == ["00000000", "00000001", "00000002"]
    cells = "00000001 2026-03-01 13:00:00 orders.pay failed 4 TimeoutError: no answer"
    assert " ".join(rows[1].split()) == cells
    assert parked_in(outside) == ["0", "1", "2"]


def test_list_of_nothing_says_so(broker_uri, outside):
    outside.doors.declare(JOBS)
    assert command("list", "-q", "jobs", "--broker", broker_uri) == (0, "", "0 messages parked, 0 queues\n")


def test_list_for_programs(look):
    code, stdout, _ = look("list", "--json")
    assert code == 0
    assert ids_in(stdout) == ["00000000", "00000001", "00000002"]
    assert "traceback" not in json.loads(stdout.splitlines()[0])


def test_show_tells_everything_and_leaves_all(look, outside):
    code, stdout, stderr = look("show", "--id", "00000001")
    assert (code, stderr) == (0, "1 message shown, 1 queue\n")
    for part in ("message 00000001-0000", "TimeoutError: no answer", "Traceback (most recent call last)", "own=1"):
        assert part in stdout
    code, stdout, _ = look("show", "--json", "--limit", "1")
    found = json.loads(stdout)
    assert (code, found["body"], found["headers"]) == (0, "0", {"own": 0})
    assert found["traceback"].startswith("Traceback")
    assert parked_in(outside) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--error", "TimeoutError"], ["00000001"]),
        (["--error", "CardError"], ["00000000", "00000002"]),
        (["--error", f"{CardError.__module__}.CardError"], ["00000000", "00000002"]),
        (["--method", "pay"], ["00000001"]),
        (["--service", "nobody"], []),
        (["--since", "2026-03-01T12:30"], ["00000001", "00000002"]),
        (["--until", "2026-03-01T12:30"], ["00000000"]),
        (["--since", "1h"], []),
        (["--id", "00000002", "--id", "00000000"], ["00000000", "00000002"]),
        (["--limit", "2"], ["00000000", "00000001"]),
        (["--error", "CardError", "--since", "2026-03-01T13:00Z"], ["00000002"]),
    ],
)
def test_filters(look, arguments, found):
    code, stdout, _ = look("list", "--json", *arguments)
    assert (code, ids_in(stdout)) == (0, found)


def test_the_limit_is_for_all_queues_together(broker_uri, outside):
    for queue in ("jobs", "other"):
        outside.doors.declare(Queue(f"{queue}.parked"))
        outside.doors.send(*(parked_message(number, queue=queue) for number in range(2)))
    arguments = ("-q", "jobs", "-q", "other", "--broker", broker_uri, "--json", "--limit")
    _, stdout, stderr = command("list", *arguments, "3")
    assert [json.loads(line)["parked_in"] for line in stdout.splitlines()] == ["jobs.parked"] * 2 + ["other.parked"]
    assert stderr == "3 messages parked, 2 queues\n"
    assert command("list", *arguments, "2")[2] == "2 messages parked, 1 queue\n"


# -- replay and drop


def test_replay_puts_messages_back_where_they_failed(look, outside):
    code, stdout, stderr = look("replay", "--error", "CardError")
    assert (code, stdout, stderr) == (0, "", "2 messages replayed, 1 queue\n")
    assert parked_in(outside, JOBS) == ["0", "2"]
    assert parked_in(outside) == ["1"]


def test_replay_for_programs(look):
    code, stdout, _ = look("replay", "--json", "--id", "00000001")
    assert code == 0
    assert json.loads(stdout) == {
        "id": "00000001-0000-4000-8000-000000000000", "queue": "jobs", "outcome": "replayed",
    }  # fmt: skip


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_message_that_fails_again_at_once_is_replayed_once(broker_uri, outside, queue_type):
    queue = KombuQueue("jobs", queue_arguments={"x-queue-type": queue_type})
    service, calls = recording(QueueListener(queue), then=lambda payload: 1 / 0, dead_letter=True)
    with running(service, config={"AMQP_URI": broker_uri}):
        for number in range(3):
            outside.send(number, key="jobs")
        wait_for_parked(outside, 3)
        assert command("replay", "-q", "jobs", "--broker", broker_uri)[2] == "3 messages replayed, 1 queue\n"
        wait_for_parked(outside, 3)
    assert sorted(calls.rest()) == [0, 0, 1, 1, 2, 2]


def wait_for_parked(outside, count):
    browser, waiting = outside.doors.browser(), threading.Event()
    deadline = time.monotonic() + SECONDS
    while browser.count("jobs.parked", deadline) != count:
        assert time.monotonic() < deadline
        waiting.wait(0.02)


@pytest.mark.parametrize("for_programs", [False, True])
def test_what_cannot_be_replayed_is_told_and_stays(broker_uri, outside, for_programs):
    outside.doors.declare(PARKED)
    outside.doors.send(parked_message(1))
    options = ["--json"] if for_programs else []
    code, stdout, stderr = command("replay", "-q", "jobs", "--broker", broker_uri, *options)
    assert code == 1
    assert stderr.endswith("Error: 1 message of 1 not replayed, see above\n")
    if for_programs:
        told = json.loads(stdout)
        assert (told["outcome"], "queue" in told["problem"]) == ("failed", True)
    else:
        assert stderr.startswith("00000001-0000-4000-8000-000000000000 is still parked: ")
    assert parked_in(outside) == ["1"]


def test_drop_asks(look, outside):
    code, stdout, stderr = look("drop", "--error", "CardError", answer="y\n")
    assert (code, stdout) == (0, "")
    assert "Drop 2 messages from jobs.parked for good? [y/N]" in stderr
    assert stderr.endswith("2 messages dropped, 1 queue\n")
    assert parked_in(outside) == ["1"]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_drop_drops_nothing_unless_told_to(look, outside, answer):
    code, _, stderr = look("drop", answer=answer)
    assert code == 1
    assert stderr.endswith("Aborted!\n")
    assert parked_in(outside) == ["0", "1", "2"]


def test_drop_need_not_ask(look, outside):
    code, stdout, stderr = look("drop", "--yes", "--json", "--limit", "1")
    assert (code, stderr) == (0, "1 message dropped, 1 queue\n")
    assert json.loads(stdout)["outcome"] == "dropped"
    assert parked_in(outside) == ["1", "2"]


def test_drop_does_not_ask_about_nothing(look):
    assert look("drop", "--service", "nobody") == (0, "", "0 messages dropped, 0 queues\n")


# -- mistakes


@pytest.mark.parametrize("name", ["list", "show", "replay", "drop"])
def test_an_id_that_is_not_there_is_exit_code_1(look, outside, name):
    options = ["--yes"] if name == "drop" else []
    code, _, stderr = look(name, "--id", "00000001", "--id", "nothing", "--id", "nobody", *options)
    assert code == 1
    assert "Error: no message is parked there whose id begins with 'nothing' or 'nobody'" in stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list"], 2, "which queues? name services"),
        (["list", "-q", "jobs"], 2, "which broker? set AMQP_URI"),
        (["list", "-q", "jobs", "-c", "nope.yaml"], 2, "there is no config file 'nope.yaml'"),
        (["list", "-q", "jobs", "--limit", "0"], 2, "--limit"),
        (["list", "-q", "jobs", "--since", "yesterday"], 2, "'yesterday' is no time; expected for instance 2026-"),
        (["list", "-q", "jobs", "--since", "99999999d"], 2, "is no time"),
        (["list", "nothing_there"], 1, "there is no module 'nothing_there'"),
        (["list", "-q", "jobs", "--broker", "http://x"], 1, "AMQP_URI"),
        (["list", "-q", "jobs", "--broker", "memory://empty"], 1, "there is no queue 'jobs', and no 'jobs.parked'"),
        (["fly"], 2, "No such command 'fly'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_line_or_two(arguments, code, words, monkeypatch):
    monkeypatch.delenv("AMQP_URI", raising=False)
    found, stdout, stderr = command(*arguments)
    assert (found, stdout) == (code, "")
    assert words in stderr
    assert "Traceback" not in stderr


# -- beside a service, in processes of their own

SERVICE = """
    import os
    from micro_framework.amqp.entrypoints import EventListener
    from micro_framework.routes import route

    class Orders:
        name = "orders"

        @route(EventListener("payments", "refunded"), dead_letter=True)
        def handle(self, payload):
            raise ValueError(payload)
"""


def test_a_message_is_parked_listed_replayed_and_handled(amqp_uri, rabbit, tmp_path):
    (tmp_path / "orders.py").write_text(textwrap.dedent(SERVICE))
    (tmp_path / "config.yaml").write_text("AMQP_URI: ${AMQP_URI}\n")
    outside = Outside(amqp_uri)
    broken, _ = recording(EventListener("payments", "refunded"), then=lambda payload: 1 / 0, dead_letter=True)
    with running(broken, config={"AMQP_URI": amqp_uri}):
        outside.event("payments", "refunded", {"order": 7}, headers={"nameko.user_id": 7})
        rabbit.wait_for(lambda it: it.depth("evt-payments-refunded--orders.handle.parked") == 1, what="parking")

    def dead_letters(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "micro_framework", "dead-letters", *arguments, "orders", "-c", "config.yaml"],
            cwd=tmp_path,
            env=os.environ | {"AMQP_URI": amqp_uri, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        return done.stdout, done.stderr

    stdout, stderr = dead_letters("list")
    assert "orders.handle" in stdout
    assert "ZeroDivisionError: division by zero" in stdout
    assert stderr == "1 message parked, 1 queue\n"
    assert dead_letters("replay") == ("", "1 message replayed, 1 queue\n")
    fixed, calls = recording(EventListener("payments", "refunded"), dead_letter=True)
    with running(fixed, config={"AMQP_URI": amqp_uri}):
        payload, context = calls.next_call()
    assert (payload, context.data) == ({"order": 7}, {"user_id": 7})
    assert dead_letters("list") == ("", "0 messages parked, 0 queues\n")
    outside.close()


HELD = """
    import sys
    from micro_framework.cli.dead_letters import shown, work
    real = work.as_row

    def slow(letter):
        if letter.delivery.body == b"30":
            print("in the middle", flush=True)
            sys.stdin.readline()
        return real(letter)

    work.as_row = slow
    from micro_framework.cli import main
    main(["dead-letters", "list", "-q", "jobs", "--broker", sys.argv[1]])
"""


def test_a_list_that_is_killed_in_the_middle_leaves_everything_in_order(amqp_uri, rabbit):
    outside = Outside(amqp_uri)
    outside.doors.declare(PARKED)
    outside.doors.send(*map(parked_message, range(60)))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HELD), amqp_uri],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "in the middle\n"
        assert rabbit.queue("jobs.parked").unacknowledged == 31
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)
    rabbit.wait_for(lambda it: it.queue("jobs.parked").ready == 60, what="everything to be back")
    assert parked_in(outside) == list(map(str, range(60)))
    outside.close()
