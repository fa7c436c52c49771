"""Third-party extensions of Nameko as they were published, in an environment that has real Nameko and eventlet too."""

import http.client
import http.server
import json
import queue
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from interop_tests.nameko_process import nameko_python
from interop_tests.own_process import UnmodifiedService
from micro_framework.exceptions import RemoteError
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import BrokerAdmin, VHost
from micro_framework.testing.rabbitmq import free_port

SECONDS = 30.0
STOP_SECONDS = 10.0

pytestmark = pytest.mark.timeout(300)  # the environment is made by the first test, if `make` has not made it


class Sentry:
    """Takes what a client of Sentry sends: an HTTP server on 127.0.0.1 that keeps the bodies."""

    def __init__(self) -> None:
        received = self.received = queue.SimpleQueue[dict[str, Any]]()

        class Store(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.put(json.loads(zlib.decompress(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Store)
        self.thread = threading.Thread(target=self.server.serve_forever, name="test-sentry")

    @property
    def dsn(self) -> str:
        return f"http://key:secret@127.0.0.1:{self.server.server_port}/1"

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def sentry() -> Iterator[Sentry]:
    with Sentry() as running:
        yield running


@pytest.fixture(scope="module")
def redis_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the tests' own, which writes nothing."""
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path_factory.mktemp("redis"))]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        until, pause = time.monotonic() + SECONDS, threading.Event()
        while not listens(port):
            assert process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < until, f"redis-server does not listen after {SECONDS:g} s"
            pause.wait(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a process stop, and kill it if it does not in time."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ThirdParty(UnmodifiedService):
    """The service, in that environment."""

    module = "third_party"


@pytest.fixture(scope="module")
def service(
    broker: BrokerAdmin, tmp_path_factory: pytest.TempPathFactory, redis_uri: str, sentry: Sentry
) -> Iterator[ThirdParty]:
    vhost = VHost(broker, broker.add_vhost())
    database: Path = tmp_path_factory.mktemp("database") / "shop.db"
    places = {"DB_URIS": {"shop:Base": f"sqlite:///{database}"}, "REDIS_URIS": {"main": redis_uri}}
    running = ThirdParty(vhost, "Shop", SENTRY={"DSN": sentry.dsn}, **places)
    running.python = str(nameko_python("extensions"))
    with running:
        yield running
        running.terminate()
        assert running.wait() == 0, running.output()
    broker.delete_vhost(vhost.name)


@pytest.fixture
def shop(service: ThirdParty) -> Iterator[Any]:
    with RPCClient(service.vhost.uri, timeout=SECONDS) as client:
        client.shop.prepare()
        yield client.shop


def traced(shop: Any, stage: str, method: str) -> bool:
    return any(trace[:2] == [stage, method] for trace in shop.traces())


def metrics(service: ThirdParty) -> str:
    """What Prometheus would get."""
    port = int(str(service.config["WEB_SERVER_ADDRESS"]).rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    return text


def test_neither_nameko_nor_eventlet_is_used(shop: Any) -> None:
    assert shop.whose()[:2] == ["nameko_compat", "nameko_compat.green"]


def test_nameko_sqlalchemy_keeps_sessions_per_call(shop: Any) -> None:
    before = shop.orders()
    calls = [shop.order.call_async(f"article {number}") for number in range(10)]
    assert len({call.result() for call in calls}) == 10
    assert len(shop.orders()) == len(before) + 10


def test_nameko_tracer_traces_calls_and_results(shop: Any, service: ThirdParty) -> None:
    shop.order("tea")
    service.vhost.wait_for(lambda _: traced(shop, "response", "ordered"), SECONDS, "the event to be traced")
    assert traced(shop, "request", "order")
    assert traced(shop, "response", "order")


def test_nameko_redis_hands_out_its_client(shop: Any) -> None:
    assert [shop.remember("tea"), shop.remember("tea"), shop.remember("milk")] == [1, 2, 1]


def report_of(sentry: Sentry, method: str) -> dict[str, Any]:
    """The next report; it must be of this method."""
    report = sentry.received.get(timeout=SECONDS)
    assert report["tags"]["method_name"] == method
    assert report["logger"] == f"shop.{method}"
    return report


def test_nameko_sentry_reports_what_a_call_raised(shop: Any, sentry: Sentry) -> None:
    with pytest.raises(RemoteError, match="no such article"):
        shop.fail("no such article")
    assert "LookupError 'no such article'" in report_of(sentry, "fail")["message"]


def test_nameko_sentry_reports_what_an_event_handler_raised(shop: Any, sentry: Sentry) -> None:
    shop.lose("a parcel")
    assert "LookupError 'a parcel'" in report_of(sentry, "lost")["message"]


def test_nameko_sentry_reports_what_a_timer_raised(shop: Any, sentry: Sentry) -> None:
    shop.let_tick_fail("too late")
    assert "LookupError 'too late'" in report_of(sentry, "tick")["message"]


def test_nameko_prometheus_counts_calls(shop: Any, service: ThirdParty) -> None:
    shop.order("milk")

    def counted(_: VHost) -> bool:
        text = metrics(service)
        return 'shop_rpc_requests_total{method_name="order"}' in text and "shop_events_total{" in text

    service.vhost.wait_for(counted, SECONDS, "a call and an event to be counted")
    assert "shop_service_max_workers 10.0" in metrics(service)
