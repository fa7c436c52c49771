"""A service under load is scraped, and the numbers add up: threads, worker processes, copies; with a real broker."""

import json
import os
import re
import signal
import socket
import threading

import pytest

from micro_framework.amqp.entrypoints import EventListener
from micro_framework.assembly import RunnerContext
from micro_framework.exceptions import SetupFailed
from micro_framework.observe.server import ObserveServer
from micro_framework.routes import Route
from micro_framework.runner import Runner, secrets_of
from micro_framework.testing import producer_for, running
from tests.observed_shop import Payments, Shop
from tests.outside import Outside
from tests.processes import ROOT, ServiceProcess
from tests.scraping import Scraper, broken_conventions, eventually

METRICS = {"ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}}
SALES = 50
CALLS = (
    "received",
    "started",
    "succeeded",
    "failed",
    "undone",
    "retried",
    "parked",
    "refused",
    "skipped",
    "handed_back",
)


def scraper_of(runner: Runner) -> Scraper:
    assert isinstance(runner.observing, ObserveServer)
    return Scraper(runner.observing.port)


def sell(runner: Runner, count: int) -> None:
    producer = producer_for(runner, "web")
    for number in range(count):
        producer("sold", number)


def calls_of(scraper: Scraper, route: str) -> dict[str, float]:
    return {name: scraper.total(f"calls_{name}_total", route=route) for name in CALLS}


def expected(sales: int) -> dict[str, float]:
    """Of ten sales one fails twice and is parked, and one fails once."""
    part = sales / 10
    return {
        **dict.fromkeys(CALLS, 0),
        "received": sales + 2 * part,
        "started": sales + 2 * part,
        "succeeded": sales - part,
        "failed": 3 * part,
        "retried": 2 * part,
        "parked": part,
    }


def check_all(scraper: Scraper, sales: int) -> None:
    done = sales * 0.9
    eventually(lambda: calls_of(scraper, "sold") == expected(sales))
    assert scraper.total("calls_running", route="sold") == 0
    assert scraper.total("call_seconds_count", route="sold") == sales * 1.2
    assert scraper.total("call_wait_seconds_count", route="sold") == sales * 1.2
    assert calls_of(scraper, "charge")["started"] == done
    # What worker processes and copies have counted is told every second.
    eventually(lambda: scraper.total("rpc_client_calls_total", method="charge", outcome="answered") == done)
    eventually(lambda: scraper.total("rpc_client_remote_errors_total", method="charge") == sales / 10)
    # Receipts, requests and replies, and a copy of each message that was parked; the parked and the delayed go apart.
    eventually(
        lambda: (
            scraper.total("publishes_total") == scraper.total("publish_outcomes_total", outcome="confirmed") >= 3 * done
        )
    )
    assert scraper.total("publishes_total", kind="delay") == sales / 5
    assert broken_conventions(scraper.ask("/metrics")[1]) == []


def test_the_numbers_add_up_after_a_load_that_was_scraped_all_the_time(rabbit):
    config = {"AMQP_URI": rabbit.uri, **METRICS}
    seen, over = [], threading.Event()
    with running(Shop, Payments, config=config) as runner:
        scraper = scraper_of(runner)

        def scrape():
            while not over.is_set():
                seen.append(scraper.total("calls_received_total", route="sold"))

        scraping = threading.Thread(target=scrape)
        scraping.start()
        try:
            sell(runner, SALES)
            check_all(scraper, SALES)
        finally:
            over.set()
            scraping.join(30)
        assert seen == sorted(seen)
        assert scraper.total("workers", context="default") == 10
        assert scraper.total("workers_available", context="default") == 10
        assert scraper.total("connections_up") == scraper.total("connections") == 4
        assert scraper.ask("/healthz")[0] == scraper.ask("/readyz")[0] == 200
        text = scraper.ask("/status.json")[1]
        errors = json.loads(text)["errors"]
        assert any(error["call_id"].startswith("shop.sold.") for error in errors)
        assert "hunter2" not in text


def test_what_runs_in_worker_processes_is_counted_in_the_service(rabbit):
    config = {"AMQP_URI": rabbit.uri, "CONTEXTS": {"cpu": {"WORKER_MODE": "process", "MAX_WORKERS": 2}}, **METRICS}
    shop = RunnerContext([Shop], name="cpu", context_metric_label="heavy")
    with running(shop, Payments, config=config) as runner:
        sell(runner, 20)
        scraper = scraper_of(runner)
        check_all(scraper, 20)
        assert scraper.total("workers", context="heavy") == 2
        assert scraper.total("calls_succeeded_total", context="heavy") == 18


def test_the_supervisor_has_the_port_and_the_numbers_of_all_copies(rabbit, tmp_path):
    config = {"PROCESSES": 2, "AMQP_URI": rabbit.uri, **METRICS}
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = ["-m", "micro_framework", "run", "tests.observed_shop", "--config", str(tmp_path / "config.json")]
    process, outside = ServiceProcess(ROOT, command), Outside(rabbit.uri)
    try:
        (line,) = process.errors.wait_for("status page on http")
        scraper = Scraper(int(re.findall(r":(\d+)/", line)[0]))
        eventually(lambda: scraper.ask("/readyz")[0] == 200)
        for number in range(20):
            outside.event("web", "sold", number)
        check_all(scraper, 20)
        assert scraper.total("workers") == 20
        before = scraper.total("calls_received_total", route="sold")
        os.kill(process.copies()["copy-1"], signal.SIGKILL)
        eventually(lambda: scraper.ask("/readyz")[0] == 503)
        assert scraper.ask("/healthz")[0] == 200
        eventually(lambda: scraper.ask("/readyz")[0] == 200)
        # What a dead copy did is not forgotten; what it had parked and not acknowledged yet is delivered again.
        assert scraper.total("calls_received_total", route="sold") >= before
        assert scraper.total("calls_succeeded_total", route="sold") == 18
        process.send(signal.SIGTERM)
        assert process.code() == 0
    finally:
        process.close()
        outside.close()


def test_a_service_that_reconnects_is_alive_and_not_ready(own_node):
    config = {"AMQP_URI": own_node.vhost().uri, **METRICS}
    with running(Shop, Payments, config=config) as runner:
        scraper = scraper_of(runner)
        assert scraper.ask("/readyz")[0] == 200
        own_node.kill()
        eventually(lambda: scraper.ask("/readyz")[0] == 503)
        code, text = scraper.ask("/healthz")
        assert code == 200
        assert any("not ready" in reason for reason in json.loads(text)["reasons"])
        own_node.start(90)
        eventually(lambda: scraper.ask("/readyz")[0] == 200)
        assert scraper.total("reconnects_total") >= 4
        assert scraper.total("connection_losses_total") >= 4


def test_a_service_that_stops_is_alive_and_not_ready():
    begun, gate = threading.Event(), threading.Event()

    class Slow:
        name = "slow"

        @EventListener("web", "wait")
        def wait(self, payload):
            begun.set()
            gate.wait(30)

    with running(Slow, config=METRICS) as runner:
        scraper = scraper_of(runner)
        producer_for(runner, "web")("wait", 1)
        assert begun.wait(30)
        assert scraper.total("calls_running", route="wait") == 1
        assert scraper.total("workers_available") == 9
        stopping = threading.Thread(target=runner.stop)
        stopping.start()
        eventually(lambda: '"stage": "stopping"' in scraper.ask("/readyz")[1])
        assert (scraper.ask("/readyz")[0], scraper.ask("/healthz")[0]) == (503, 200)
        gate.set()
        stopping.join(30)
    with pytest.raises(OSError):
        scraper.ask("/healthz")


def test_a_worker_thread_that_has_ended_makes_the_service_not_alive():
    class Quiet:
        name = "quiet"

        @EventListener("web", "wait")
        def wait(self, payload):
            pass

    with running(Quiet, config=METRICS) as runner:
        scraper = scraper_of(runner)
        runner.assembly.spawners["default"].jobs.tell_end()
        code, text = eventually(lambda: scraper.ask("/healthz") if scraper.ask("/healthz")[0] == 503 else None)
        assert "thread mf-worker-default-" in text
        assert (code, scraper.ask("/readyz")[0]) == (503, 503)


def handle(payload):
    """A function that a route names."""


def test_routes_and_contexts_go_by_their_labels():
    routes = [Route(handle, EventListener("web", "sold"), metric_label="sales")]
    context = RunnerContext(routes, name="slow", context_metric_label="the-slow-ones")
    with running(context, config={"SERVICE_NAME": "shop", **METRICS}) as runner:
        producer_for(runner, "web")("sold", 1)
        scraper = scraper_of(runner)
        labels = {"service": "shop", "route": "sales", "context": "the-slow-ones"}
        eventually(lambda: scraper.total("calls_succeeded_total", **labels) == 1)
        assert scraper.total("workers", context="the-slow-ones") == 10


def test_a_port_in_use_is_one_readable_error_and_nothing_was_started():
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = {**METRICS, "METRICS": {"HOST": "127.0.0.1", "PORT": other.getsockname()[1]}}
        with pytest.raises(SetupFailed, match="cannot listen on HOST '127.0.0.1'"), running(Shop, config=config):
            pass


@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_ends_with_1_where_it_cannot_listen(processes, tmp_path):
    config = {"PROCESSES": processes, "ENABLE_METRICS": True, "METRICS": {"HOST": "203.0.113.7"}}
    (tmp_path / "config.json").write_text(json.dumps({"AMQP_URI": "amqp://127.0.0.1:1", **config}))
    command = ["-m", "micro_framework", "run", "tests.observed_shop", "--config", str(tmp_path / "config.json")]
    process = ServiceProcess(ROOT, command)
    try:
        assert process.code() == 1
        (told,) = [line for line in process.errors.lines if line.startswith("Error: ")]
        assert told.startswith("Error: METRICS: cannot listen on HOST '203.0.113.7', PORT 8000")
        assert not any("Traceback" in line for line in process.errors.lines)
    finally:
        process.close()


def test_without_enable_metrics_nothing_is_counted_and_nothing_listens():
    with running(Shop, Payments) as runner:
        assert runner.observing is None
        assert runner.tallies is None
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("mf-observe")]


def test_secrets_of_the_configuration_are_known():
    settings = Runner(
        [Payments], {"AMQP_URI": "amqp://bob:xyzzyplugh@h/v", "WEBSOCKET": {"TOKEN": "long-token"}}
    ).settings
    assert secrets_of(settings) == ("xyzzyplugh", "long-token")
