import json
import textwrap

import pytest
from click.testing import CliRunner, Result

from micro_framework.cli import main

SERVICE = """
    from micro_framework.amqp.dependencies import Producer, RPCProxy
    from micro_framework.amqp.entrypoints import EventListener, QueueListener, RPCListener
    from micro_framework.entrypoints import TimeEntrypoint
    from micro_framework.retry import AsyncBackOff
    from micro_framework.routes import route

    class Orders:
        name = "orders"
        dispatch = Producer()
        payments = RPCProxy("pay-ments")

        @RPCListener()
        def create(self, customer): ...

        @route(EventListener("pay-ments", "refunded"), backoff=AsyncBackOff(5, 10_000, factor=2), on_failure="lost")
        def refund(self, payload): ...

        def lost(self, payload): ...

        @QueueListener("raw")
        def raw(self, payload): ...

        @TimeEntrypoint(interval=60)
        def tick(self): ...
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    name = f"shown_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SERVICE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["routes", *arguments])


def test_every_route_is_shown_with_queue_key_workers_and_retries(module: str) -> None:
    done = invoke(module, "-d", "MAX_WORKERS=4")
    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "orders"
    event = "EventListener source=pay-ments event=refunded handler_type=service_pool"
    for expected in (
        "RPCListener routing_key=orders.create; queue rpc-orders bound to nameko-rpc/orders.*",
        f"{event}; queue evt-pay-ments-refunded--orders.refund bound to pay-ments.events/refunded",
        "QueueListener; queue raw",
        "context default: 4 workers, thread, prefetch 4",
        "retried 5 times after 10000 ms, each 2 times the one before",
        "on failure Orders.lost",
        "uses RPCProxy service=pay-ments",
    ):
        assert expected in lines


def test_json_is_for_programs(module: str) -> None:
    described = json.loads(invoke(module, "--format", "json").stdout)
    create, refund, raw, tick = described
    assert create["entrypoint"]["queue"] == "rpc-orders"
    assert refund["backoff"] == {"max_retries": 5, "interval_ms": 10000, "factor": 2}
    assert raw["entrypoint"] == {"kind": "QueueListener", "queue": "raw", "bindings": [], "prefetch": 10}
    assert tick["entrypoint"]["interval"] == 60
    assert {"kind": "Producer", "exchange": "orders.events"} in tick["dependencies"]


def test_mermaid_draws_services_events_and_calls(module: str) -> None:
    assert invoke(module, "--format", "mermaid").stdout.splitlines() == [
        "flowchart LR",
        '    svc_orders["orders"]',
        '    svc_pay_ments["pay-ments"]',
        '    svc_orders -.->|"rpc"| svc_pay_ments',
        '    svc_pay_ments -->|"refunded"| svc_orders',
    ]


def test_what_could_not_run_is_not_shown_but_told(module: str) -> None:
    done = invoke(module, "-d", "serializer=none-such")
    assert done.exit_code == 1
    assert "none-such" in done.stderr


def test_a_module_with_a_runner_of_its_own_is_shown_with_its_own_configuration(module: str, tmp_path) -> None:
    own = f"{module}_own"
    (tmp_path / f"{own}.py").write_text(
        f"from micro_framework.runner import Runner\nfrom {module} import Orders\n"
        "runner = Runner([Orders], {'AMQP_URI': 'amqp://localhost', 'MAX_WORKERS': 3})\n"
    )
    done = invoke(own)
    assert done.exit_code == 0, done.output
    assert "context default: 3 workers, thread, prefetch 3" in done.stdout
    assert invoke(own, "-d", "MAX_WORKERS=4").exit_code == 2
