"""Third-party extensions of Nameko as they were published, in an environment that has real Nameko and eventlet too."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop_tests.nameko_process import nameko_python
from interop_tests.own_process import UnmodifiedService
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import BrokerAdmin, VHost

SECONDS = 30.0

pytestmark = pytest.mark.timeout(300)  # the environment is made by the first test, if `make` has not made it


class ThirdParty(UnmodifiedService):
    """The service, in that environment."""

    module = "third_party"


@pytest.fixture(scope="module")
def service(broker: BrokerAdmin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThirdParty]:
    vhost = VHost(broker, broker.add_vhost())
    database: Path = tmp_path_factory.mktemp("database") / "shop.db"
    running = ThirdParty(vhost, "Shop", DB_URIS={"shop:Base": f"sqlite:///{database}"})
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


def test_nameko_prometheus_counts_calls(shop: Any, service: ThirdParty) -> None:
    shop.order("milk")

    def counted(_: VHost) -> bool:
        text = metrics(service)
        return 'shop_rpc_requests_total{method_name="order"}' in text and "shop_events_total{" in text

    service.vhost.wait_for(counted, SECONDS, "a call and an event to be counted")
    assert "shop_service_max_workers 10.0" in metrics(service)
