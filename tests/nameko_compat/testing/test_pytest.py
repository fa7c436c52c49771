"""Nameko's pytest fixtures, in a pytest of their own: a test file written for Nameko, as it is.

On RabbitMQ the same is done where there is a node with the management plugin: in tests/testing/test_management.py.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = """
    import eventlet
    import pytest
    from nameko.events import EventDispatcher, event_handler
    from nameko.rpc import RpcProxy, rpc
    from nameko.standalone.rpc import ServiceRpcProxy
    from nameko.testing.services import dummy, entrypoint_hook, entrypoint_waiter, worker_factory

    class Orders:
        name = "orders"
        payments = RpcProxy("payments")
        dispatch = EventDispatcher()

        @rpc
        def create(self, number):
            self.dispatch("created", number)
            return self.payments.charge(number)

    class Payments:
        name = "payments"

        @rpc
        def charge(self, number):
            return number * 2

        @event_handler("orders", "created")
        def created(self, number):
            return number

    def test_alone():
        orders = worker_factory(Orders)
        orders.payments.charge.return_value = 7
        assert orders.create(1) == 7

    def test_together(runner_factory, rabbit_config, amqp_uri):
        assert rabbit_config["AMQP_URI"] == amqp_uri
        runner = runner_factory(rabbit_config, Orders, Payments)
        runner.start()
        container = next(each for each in runner.containers if each.service_cls is Payments)
        with entrypoint_waiter(container, "created") as result:
            with ServiceRpcProxy("orders", rabbit_config, timeout=20) as orders:
                assert orders.create(3) == 6
        assert result.get() == 3

    def test_a_container(container_factory, rabbit_config, predictable_call_ids):
        container = container_factory(Payments, rabbit_config)
        container.start()
        with entrypoint_hook(container, "charge") as charge:
            assert charge(1) == 2
        assert predictable_call_ids.called

    def test_the_rest(empty_config, mock_container, web_config):
        assert empty_config is web_config
        assert mock_container.service_name == "mock_container"
        assert "WEB_SERVER_ADDRESS" in web_config
"""


def run_tests(folder: Path, *arguments: str) -> str:
    """Run `TESTS`; the output."""
    (folder / "test_orders.py").write_text(textwrap.dedent(TESTS))
    (folder / "pytest.ini").write_text("[pytest]\n")
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "nameko_compat.testing.unmodified"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *arguments, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


def test_a_test_file_written_for_nameko_passes(tmp_path: Path) -> None:
    assert "4 passed" in run_tests(tmp_path)
