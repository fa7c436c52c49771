"""One queue, served by Nameko and by us: at the same time, one after the other, and when either is killed at work."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import amqp
import pytest
from click.testing import CliRunner

from interop_tests.nameko_process import START_SECONDS, Nameko
from interop_tests.raw_messages import channel_to, publish, take
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.cli import main
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import route
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.rabbitmq import free_port
from micro_framework.testing.services import running

SHARED, HELD = "evt-source-shared--pooled.handle", "evt-source-held--pooled.hold"
POOLED = "interop_peers:Pooled"


def own_pooled() -> tuple[type, list[Any]]:
    """Our service of the same name and methods as Nameko's, and what it handles."""
    handled: list[Any] = []

    class Pooled:
        name = "pooled"

        @EventListener("source", "shared")
        def handle(self, payload: Any) -> None:
            handled.append(payload)

        @EventListener("source", "held")
        def hold(self, payload: Any) -> None:
            handled.append(payload)

    return Pooled, handled


def config_of(vhost: VHost) -> dict[str, Any]:
    return {"AMQP_URI": vhost.uri}


def emit(vhost: VHost, *payloads: Any, event: str = "shared") -> None:
    for payload in payloads:
        publish(vhost.uri, "source.events", event, payload)


def emit_numbers(vhost: VHost, count: int) -> list[int]:
    """Fill the shared queue quickly."""
    numbers = list(range(count))
    with channel_to(vhost.uri) as channel:
        for number in numbers:
            message = amqp.Message(str(number), content_type="application/json", content_encoding="utf-8")
            channel.basic_publish_confirm(message, "source.events", "shared")
    return numbers


def handled_by(nameko: Nameko) -> list[dict[str, Any]]:
    with RPCClient(nameko.vhost.uri) as client:
        log: list[dict[str, Any]] = client.pooled.log()
    return log


def payloads_of(log: list[dict[str, Any]]) -> list[Any]:
    return [entry["payload"] for entry in log]


# -- together, and one after the other


def test_a_queue_served_by_both_is_handled_exactly_once(nameko: Nameko) -> None:
    vhost = nameko.vhost
    nameko.run(POOLED)
    service, ours = own_pooled()
    with running(service, config=config_of(vhost)):
        numbers = emit_numbers(vhost, 200)
        vhost.wait_until_drained()
        theirs = payloads_of(handled_by(nameko))
    assert sorted(ours + theirs) == numbers
    assert ours
    assert theirs


def test_what_nameko_left_behind_is_drained_by_us(nameko: Nameko) -> None:
    vhost = nameko.vhost
    with nameko.run(POOLED):
        pass
    numbers = emit_numbers(vhost, 100)
    assert vhost.depth(SHARED) == 100
    service, ours = own_pooled()
    with running(service, config=config_of(vhost)):
        vhost.wait_until_drained(SHARED)
    assert sorted(ours) == numbers


def test_what_failed_with_us_is_parked_beside_namekos_queue_and_replayed_to_nameko(nameko: Nameko) -> None:
    """Nameko's queues have no dead-letter arguments, and what we replay is as Nameko expects it."""
    vhost = nameko.vhost
    with nameko.run(POOLED):
        pass

    class Pooled:
        name = "pooled"

        @route(EventListener("source", "shared"), dead_letter=True)
        def handle(self, payload: Any) -> None:
            raise ValueError(payload)

    emit(vhost, {"order": 7})
    with running(Pooled, config=config_of(vhost)):
        vhost.wait_for(lambda it: it.depth(f"{SHARED}.parked") == 1, what="the message to be parked")
    assert vhost.depth(SHARED) == 0
    replay = CliRunner().invoke(main, ["dead-letters", "replay", "--queue", SHARED, "--broker", vhost.uri])
    assert (replay.exit_code, replay.output) == (0, "1 message replayed, 1 queue\n")
    nameko.run(POOLED)
    vhost.wait_until_drained()
    assert payloads_of(handled_by(nameko)) == [{"order": 7}]


def test_what_we_left_behind_is_drained_by_nameko(nameko: Nameko) -> None:
    vhost = nameko.vhost
    service, ours = own_pooled()
    with running(service, config=config_of(vhost)):
        pass
    numbers = emit_numbers(vhost, 100)
    nameko.run(POOLED)
    vhost.wait_until_drained(SHARED)
    assert sorted(payloads_of(handled_by(nameko))) == numbers
    assert ours == []


def test_neither_finds_the_others_queue_declared_wrongly(nameko: Nameko) -> None:
    vhost = nameko.vhost
    service, _ = own_pooled()
    with running(service, config=config_of(vhost)):
        by_us = flags_of(vhost)
    nameko.run(POOLED)
    assert {name: flags for name, flags in flags_of(vhost).items() if name in by_us} == by_us
    assert sorted(by_us) == sorted([SHARED, HELD])


def flags_of(vhost: VHost) -> dict[str, Any]:
    bound = {(b.destination, b.source, b.routing_key) for b in vhost.bindings()}
    return {
        name: (queue.durable, queue.exclusive, queue.auto_delete, queue.arguments, {b for b in bound if b[0] == name})
        for name, queue in vhost.queues().items()
        if name.startswith("evt-")
    }


# -- a message that we put off


def test_a_message_that_we_put_off_is_handled_by_nameko_body_unchanged(nameko: Nameko) -> None:
    vhost = nameko.vhost
    marker = uuid.uuid4().hex
    body = b'{"marker":   "%s", "text": "caf\\u00e9", "n": 1.50}' % marker.encode()
    failed = Event()

    class Pooled:
        name = "pooled"

        @route(EventListener("source", "shared"), backoff=AsyncBackOff(max_retries=5, interval=500))
        def handle(self, payload: Any) -> None:
            failed.set()
            raise RuntimeError("try it again")

    with running(Pooled, config=config_of(vhost)):
        publish(vhost.uri, "source.events", "shared", headers={"nameko.user_id": 7}, body=body)
        assert failed.wait(START_SECONDS)
    vhost.wait_for(lambda _: vhost.depth(SHARED) == 1, what="the message to come back")
    looked_at = take(vhost.uri, SHARED, put_back=True)
    assert looked_at.body.encode() == body
    assert looked_at.properties["content_type"] == "application/json"
    nameko.run(POOLED)
    vhost.wait_until_drained(SHARED)
    (entry,) = handled_by(nameko)
    assert entry["payload"] == {"marker": marker, "text": "café", "n": 1.5}
    assert entry["context"]["user_id"] == 7
    assert len(entry["stack"]) == 1


def test_half_of_what_we_put_off_lands_on_nameko(nameko: Nameko) -> None:
    """Both serve the queue; whatever fails with us comes back to the queue, and either gets it."""
    vhost = nameko.vhost
    nameko.run(POOLED)
    failed: list[int] = []
    ours: list[int] = []

    class Pooled:
        name = "pooled"
        retry = BackOffData()

        @route(EventListener("source", "shared"), backoff=AsyncBackOff(max_retries=1, interval=200, jitter=0.5))
        def handle(self, payload: int) -> None:
            if self.retry.retry_count == 0:
                failed.append(payload)
                raise RuntimeError("try it again, wherever that is")
            ours.append(payload)

    with running(Pooled, config=config_of(vhost)):
        numbers = emit_numbers(vhost, 200)
        vhost.wait_until_drained(timeout=60)
        log = handled_by(nameko)
    theirs = payloads_of(log)
    assert sorted(ours + theirs) == numbers, "each was handled once in the end"
    assert len(failed) == len(set(failed))
    retried_by_nameko = set(failed) & set(theirs)
    assert retried_by_nameko, "none of the retries landed on Nameko"
    assert set(ours) < set(failed), "none of the retries landed with us, or one that never failed"
    assert retried_by_nameko | set(ours) == set(failed)
    seen = {entry["payload"]: set(entry["context"]) for entry in log}
    assert all("call_id_stack" not in seen[number] for number in retried_by_nameko)


# -- killed at work


def test_a_message_comes_to_us_when_nameko_is_killed_at_it(nameko: Nameko) -> None:
    vhost = nameko.vhost
    theirs = nameko.run(POOLED)
    emit(vhost, {"blocks": "nameko"}, event="held")
    vhost.wait_for(lambda _: vhost.queue(HELD).unacknowledged == 1, what="Nameko to begin")
    service, ours = own_pooled()
    with running(service, config=config_of(vhost)):
        assert ours == []
        theirs.kill()
        vhost.wait_until_drained(HELD)
    assert ours == [{"blocks": "nameko"}]


OWN_MODULE = """
    import time

    from micro_framework.amqp.entrypoints import EventListener


    class Pooled:
        name = "pooled"

        @EventListener("source", "held")
        def hold(self, payload):
            if payload["blocks"] == "us":
                time.sleep(60)
"""


@contextlib.contextmanager
def run_as_a_process(folder: Path, vhost: VHost) -> Iterator["subprocess.Popen[bytes]"]:
    """Our service as users run it; killed after the block at the latest."""
    (folder / "own_pooled.py").write_text(textwrap.dedent(OWN_MODULE))
    (folder / "config.yaml").write_text(f"AMQP_URI: {vhost.uri}\nWEB_SERVER_ADDRESS: 127.0.0.1:{free_port()}\n")
    command = [sys.executable, "-m", "micro_framework", "run", "own_pooled:Pooled", "--config", "config.yaml"]
    variables = {key: value for key, value in os.environ.items() if key != "AMQP_URI"}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    try:
        vhost.wait_for_consumers(HELD, timeout=START_SECONDS)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_message_goes_to_nameko_when_we_are_killed_at_it(nameko: Nameko, tmp_path: Path) -> None:
    vhost = nameko.vhost
    with run_as_a_process(tmp_path, vhost) as ours:
        emit(vhost, {"blocks": "us"}, event="held")
        vhost.wait_for(lambda _: vhost.queue(HELD).unacknowledged == 1, what="our service to begin")
        nameko.run(POOLED)
        ours.send_signal(signal.SIGKILL)
        vhost.wait_until_drained(HELD)
    assert payloads_of(handled_by(nameko)) == [{"blocks": "us"}]


@pytest.mark.parametrize("stopping", [signal.SIGTERM, signal.SIGINT])
def test_a_service_of_ours_that_is_told_to_stop_leaves_the_rest_to_nameko(
    nameko: Nameko, tmp_path: Path, stopping: signal.Signals
) -> None:
    vhost = nameko.vhost
    with run_as_a_process(tmp_path, vhost) as ours:
        emit(vhost, *({"blocks": "nobody", "number": number} for number in range(5)), event="held")
        vhost.wait_until_drained(HELD)
        ours.send_signal(stopping)
        assert ours.wait(START_SECONDS) == 0
    emit(vhost, {"blocks": "nobody", "number": 5}, event="held")
    nameko.run(POOLED)
    vhost.wait_until_drained(HELD)
    assert payloads_of(handled_by(nameko)) == [{"blocks": "nobody", "number": 5}]
