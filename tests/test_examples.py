"""The examples run: on the embedded broker, and as a user starts them on RabbitMQ."""

import os
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import pytest
import yaml

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.config import Settings
from micro_framework.config.text import parse_config
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import CallbackRoute
from micro_framework.runner import Runner
from micro_framework.supervisor import STOP_MARGIN
from micro_framework.testing import ManualClock, client_for, running, wait_for
from micro_framework.testing.broker_state import VHost
from micro_framework.wire.errors import REGISTERED_EXCEPTIONS
from tests.outside import Outside
from tests.scraping import Scraper, eventually
from tests.websocket.people import LOCAL, client

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DEADLINE = 20.0
PROCESS_DEADLINE = 45.0
"""Two processes start after the service, and then they compute."""
LOCK = "mf-timer.reports.send"


@pytest.fixture
def first_service():
    return runpy.run_path(str(EXAMPLES / "first_service" / "shipping.py"))["Shipping"]


@pytest.fixture
def routes_example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "routes"))
    yield runpy.run_path(str(EXAMPLES / "routes" / "service.py"), run_name="service")
    sys.modules.pop("tasks", None)


class Payments:
    """What the Nameko service of the first example does, here on the embedded broker."""

    name = "payments"
    heard: SimpleQueue[object]
    order = 1
    dispatch = Producer()

    @TimeEntrypoint(interval=3600, eager=True)
    def take_payment(self):
        self.dispatch("payment_received", {"order": self.order})

    @EventListener("shipping", "order_shipped")
    def shipped(self, payload):
        self.heard.put(payload)

    @EventListener("shipping", "order_not_shipped")
    def not_shipped(self, payload):
        self.heard.put(payload)


@pytest.mark.parametrize("order", [1, 3])
def test_the_first_service_ships_what_is_paid_if_need_be_at_the_second_attempt(first_service, order):
    class Paid(Payments):
        heard = SimpleQueue()

    Paid.order = order
    with running(first_service, Paid):
        assert Paid.heard.get(timeout=DEADLINE) == {"order": order}


def test_the_timer_of_the_first_service_ticks(first_service):
    clock = ManualClock()
    with running(first_service, clock=clock) as runner, wait_for(runner, "Shipping.report") as waited:
        clock.advance(10)
    assert waited.result() is None


def test_the_first_service_stops_cleanly_on_rabbitmq(rabbit):
    command = [sys.executable, "-m", "micro_framework", "run", "shipping", "--config", "config.yaml"]
    with started(command, EXAMPLES / "first_service", AMQP_URI=rabbit.uri) as process:
        rabbit.wait_for_consumers("evt-payments-payment_received--shipping.ship", timeout=DEADLINE)
        assert ended(process) == 0


@pytest.fixture
def rpc_example(monkeypatch):
    """The services of the RPC example, and what its script calls itself."""
    folder = EXAMPLES / "rpc"
    monkeypatch.syspath_prepend(str(folder))
    yield {name: runpy.run_path(str(folder / f"{name}.py"), run_name=name) for name in NAMES}
    for name in ("errors", *NAMES):
        sys.modules.pop(name, None)
    REGISTERED_EXCEPTIONS.pop("errors.NoFunds", None)


NAMES = ("payments", "orders", "place_orders")
PLACED = """\
orders offers create - Create an order for some items, and charge the customer for it.
{'amount': 14, 'charge': 'charge-7-14'}
{'refused': '7 cannot pay 1000000'}
RemoteError - RemoteError KeyError 'unicorn'
UnknownService - Unknown service `invoices`
"""


def test_the_services_of_the_rpc_example_answer_its_script(rpc_example, monkeypatch, capsys, caplog):
    script = rpc_example["place_orders"]["main"]
    with running(rpc_example["orders"]["Orders"], rpc_example["payments"]["Payments"]) as runner:
        monkeypatch.setitem(script.__globals__, "URI", runner.settings.amqp_uri)
        script()
    assert capsys.readouterr().out == PLACED
    assert "4111" not in caplog.text


def test_the_rpc_example_runs_on_rabbitmq(rabbit: VHost):
    folder, uri = EXAMPLES / "rpc", rabbit.uri
    run = [sys.executable, "-m", "micro_framework", "run", "orders", "payments", "--config", "config.yaml"]
    with started(run, folder, AMQP_URI=uri) as services:
        rabbit.wait_for_consumers("rpc-orders", "rpc-payments", timeout=DEADLINE)
        script = [sys.executable, "place_orders.py"]
        variables = os.environ | {"AMQP_URI": uri, "PYTHONPATH": str(EXAMPLES.parent)}
        done = subprocess.run(script, cwd=folder, env=variables, capture_output=True, text=True, timeout=99, check=True)
        assert (done.stdout, done.stderr) == (PLACED, "")
        assert ended(services) == 0
    assert sorted(rabbit.queues()) == ["rpc-orders", "rpc-payments"]


def test_the_target_of_the_websocket_example_is_called_over_websocket_and_rpc():
    prices = runpy.run_path(str(EXAMPLES / "websocket" / "prices.py"))["Prices"]
    with running(prices, config=LOCAL) as runner, client(runner) as browser, client_for(runner) as caller:
        assert browser.ask("price", "apple", command_kwargs={"count": 2})["data"] == {"fruit": "apple", "total": 6}
        assert browser.ask("price", "plum")["exception"]["value"] == "plum"
        assert caller.prices.price("pear") == {"fruit": "pear", "total": 4}


@pytest.fixture
def timers_example():
    return runpy.run_path(str(EXAMPLES / "timers" / "reports.py"))["Reports"]


def test_the_timers_of_the_example_tick(timers_example, caplog):
    caplog.set_level("INFO")
    clock = ManualClock(utc=datetime(2026, 6, 1, 0, 29, 50, tzinfo=UTC))
    with running(timers_example, clock=clock) as runner:
        with wait_for(runner, "Reports.alive"):
            clock.advance(5)
        with wait_for(runner, "Reports.clean_up"), wait_for(runner, "Reports.send"):
            clock.advance(5)
        with wait_for(runner, "Reports.send") as waited:
            clock.advance(0.5)
        assert waited.result() is None
    for text in ("this replica lives", "half past two in Berlin", "sent by this replica alone, at attempt 2"):
        assert text in caplog.text


def test_one_of_two_replicas_of_the_example_sends(rabbit):
    command = [sys.executable, "-m", "micro_framework", "run", "reports", "--config", "config.yaml"]
    with started(command, EXAMPLES / "timers", AMQP_URI=rabbit.uri) as one:
        rabbit.wait_for(
            lambda _: "mf-timer.reports.send" in rabbit.queues(), 2 * DEADLINE, "the first to hold the lock"
        )
        with started(command, EXAMPLES / "timers", AMQP_URI=rabbit.uri) as other:
            rabbit.wait_for(lambda _: len(rabbit.connections()) == 2, 2 * DEADLINE, "the second to wait for it")
            assert ended(one) == 0
            rabbit.wait_for(lambda _: LOCK in rabbit.queues(), 2 * DEADLINE, "the second to hold it")
            assert ended(other) == 0


class Source:
    """Dispatches the event that the routes handle, when its clock is turned."""

    name = "my_exchange"
    dispatch = Producer()
    payload: dict[str, object]

    @TimeEntrypoint(interval=1)
    def send(self):
        self.dispatch("my_routing_key", self.payload)


def run_routes(routes, config, payload):
    """Until the second route has handled an event of the first one."""
    source = type("Source", (Source,), {"payload": payload})
    clock = ManualClock()
    with Runner([*routes, source], config | {"AMQP_URI": "memory://routes-example"}, clock=clock) as runner:
        with wait_for(runner, "tasks.test2", DEADLINE):
            clock.advance(1)


def test_the_routes_run_on_the_embedded_broker(routes_example, capsys):
    run_routes(routes_example["routes"], routes_example["config"], {"number": 1})
    assert "test2 got {'number': 1}" in capsys.readouterr().out


def test_the_callback_of_the_routes_is_called_after_the_last_attempt(routes_example, capsys):
    with_retries, second = routes_example["routes"]
    assert isinstance(with_retries, CallbackRoute)
    with_retries.backoff = AsyncBackOff(max_retries=5, interval=1)
    run_routes([with_retries, second], routes_example["config"], {"fails": True})
    output = capsys.readouterr().out
    assert "test failed 6 times for {'fails': True}" in output
    assert "test2 got {'failed': {'fails': True}}" in output


@pytest.fixture
def parking_example():
    return runpy.run_path(str(EXAMPLES / "parking" / "shop.py"))


def test_the_tour_retries_what_may_pass_and_parks_what_will_not(parking_example):
    payments, refused = parking_example["Payments"], SimpleQueue()

    class Watch:
        name = "watch"

        @QueueListener("evt-shop-order_placed--payments.charge.parked")
        def look(self, order):
            refused.put(order)

    clock, ended_calls = ManualClock(), SimpleQueue()
    with running(payments, parking_example["Shop"], Watch, clock=clock) as runner:
        runner.observers.append(lambda route, call, outcome: ended_calls.put((route.label, call, outcome.error)))
        for _ in range(3):
            with wait_for(runner, "Shop.place_order", DEADLINE):
                clock.advance(1)
        assert refused.get(timeout=DEADLINE) == {"number": 3, "card": "mastercard"}
        attempts = charges(ended_calls)
        while next(attempts) != (2, 1, None):  # the second order, at its first retry
            pass


def charges(ended_calls):
    """Number of the order, number of the retry and error, for each charge that has ended."""
    while True:
        label, call, error = ended_calls.get(timeout=DEADLINE)
        if label == "Payments.charge":
            yield call.args[0]["number"], call.attempt.retry_count, error


def test_the_tour_is_taken_on_rabbitmq(rabbit):
    folder, parked = EXAMPLES / "parking", "evt-shop-order_placed--payments.charge.parked"
    command = [sys.executable, "-m", "micro_framework"]
    with started([*command, "run", "shop", "--config", "config.yaml"], folder, AMQP_URI=rabbit.uri) as process:
        rabbit.wait_for(lambda it: it.depth(parked) > 0, DEADLINE, "an order to be parked")
        assert ended(process) == 0
    replay = [*command, "dead-letters", "replay", "shop:Payments", "--config", "config.yaml", "--error", "CardRefused"]
    again = [*command, "run", "shop:Payments", "--config", "config.yaml"]
    with started(again, folder, AMQP_URI=rabbit.uri, CARDS="visa,mastercard") as process:
        rabbit.wait_for_consumers("evt-shop-order_placed--payments.charge", timeout=DEADLINE)
        with started(replay, folder, AMQP_URI=rabbit.uri) as replaying:
            assert replaying.wait(DEADLINE) == 0
        rabbit.wait_until_drained(timeout=DEADLINE)
        assert ended(process) == 0


def test_the_routes_start_as_a_script_on_rabbitmq(rabbit: VHost):
    with started([sys.executable, "service.py"], EXAMPLES / "routes", AMQP_URI=rabbit.uri) as process:
        rabbit.wait_for_consumers(
            "evt-my_exchange-my_routing_key--my_service.test",
            "evt-my_service-event_name--my_service.test2",
            timeout=DEADLINE,
        )
        assert ended(process) == 0


def test_the_primes_are_counted_in_processes_on_rabbitmq(rabbit: VHost):
    command = [sys.executable, "-m", "micro_framework", "run", "primes", "--config", "config.yaml"]
    outside = Outside(rabbit.uri)
    try:
        heard = outside.listen("primes", "counted")
        with started(command, EXAMPLES / "processes", AMQP_URI=rabbit.uri) as process:
            counted = {heard.deliveries.get(timeout=PROCESS_DEADLINE).body for _ in range(4)}
            assert b'{"below": 10000, "primes": 1229}' in counted
            assert ended(process) == 0
    finally:
        outside.close()


def test_unmodified_nameko_services_run_on_rabbitmq(rabbit: VHost):
    command = [sys.executable, "-m", "micro_framework", "run", "--nameko", "shop", "--config", "nameko.yaml"]
    outside = Outside(rabbit.uri)
    try:
        heard = outside.listen("shop", "bought")
        with started(command, EXAMPLES / "unmodified-nameko", AMQP_URI=rabbit.uri) as process:
            assert heard.deliveries.get(timeout=PROCESS_DEADLINE).body == b'{"prices": [4, 1, 2], "total": 7}'
            assert ended(process) == 0
    finally:
        outside.close()


@contextmanager
def started(command, folder, **variables):
    """A process that does not outlive the block."""
    with subprocess.Popen(command, cwd=folder, env=os.environ | variables, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process):
    process.send_signal(signal.SIGTERM)
    return process.wait(DEADLINE)


def test_the_example_for_kubernetes_leaves_a_pod_the_time_that_it_needs():
    config_map, deployment = yaml.safe_load_all((EXAMPLES / "kubernetes" / "deployment.yaml").read_text())
    text = config_map["data"]["config.yaml"]
    settings = Settings.from_mapping(parse_config(text, {"AMQP_URI": "amqp://rabbitmq"}, source="config.yaml"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] > settings.shutdown_timeout + STOP_MARGIN
    assert container["command"][:2] == ["micro-framework", "run"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"observe": settings.metrics.port}
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def test_the_page_for_kubernetes_names_what_the_manifests_have():
    page = (EXAMPLES / "kubernetes" / "README.md").read_text()
    _, deployment = yaml.safe_load_all((EXAMPLES / "kubernetes" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (secret,) = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "AMQP_URI"]
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in page
    assert f"rollout restart deployment {deployment['metadata']['name']}\n" in page


def test_the_example_with_metrics_has_something_to_show():
    shop = runpy.run_path(str(EXAMPLES / "metrics" / "shop.py"))
    # At the stop one of the calls may wait for a service that is stopped already.
    config = {"ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}, "RPC_TIMEOUT": 2}
    with running(shop["Orders"], shop["Payments"], shop["Stock"], config=config) as runner:
        scraper = Scraper(runner.observing.port)
        eventually(lambda: scraper.total("calls_succeeded_total", service="stock") >= 1)
        eventually(lambda: scraper.total("calls_retried_total", service="payments") >= 1)
