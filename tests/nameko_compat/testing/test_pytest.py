"""Nameko's pytest fixtures, in a pytest of their own: a test file written for Nameko, as it is.

On RabbitMQ the same is done where there is a node with the management plugin: in tests/testing/test_management.py.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = """
    import eventlet
    import nameko
    import pytest
    from kombu import Queue
    from nameko.events import EventDispatcher, event_handler
    from nameko.exceptions import RemoteError
    from nameko.rpc import RpcProxy, rpc
    from nameko.standalone.rpc import ServiceRpcProxy
    from nameko.web.handlers import http
    from nameko.web.websocket import WebSocketHubProvider, rpc as websocket_rpc
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
        assert nameko.config["WEB_SERVER_ADDRESS"] == web_config["WEB_SERVER_ADDRESS"]

    class Web:
        name = "web"
        hub = WebSocketHubProvider()

        @http("GET", "/orders/<int:number>")
        def order(self, request, number):
            return str(number * nameko.config["FACTOR"])

        @websocket_rpc
        def double(self, socket_id, number):
            if number is None:
                raise LookupError("no number")
            return number * 2

        @websocket_rpc
        def join(self, socket_id):
            self.hub.subscribe(socket_id, "all")
            self.hub.broadcast("all", "joined", {"who": "me"})

    def test_the_web(container_factory, rabbit_config, web_config, web_session, websocket):
        container_factory(Web, {"FACTOR": 3}).start()
        assert web_session.get("/orders/7").text == "21"
        socket = websocket()
        assert socket.rpc("double", number=4) == 8
        with pytest.raises(RemoteError, match="no number"):
            socket.rpc("double", number=None)
        socket.rpc("join")
        assert socket.wait_for_event("joined") == ("joined", {"who": "me"})
        with eventlet.Timeout(0.01, exception=False):
            socket.wait_for_event("left")

    @pytest.mark.usefixtures("rabbit_config")
    def test_version_3_is_given_no_configuration(runner_factory, rabbit_uri):
        runner = runner_factory(Orders, Payments)
        runner.start()
        assert nameko.config == {"AMQP_URI": rabbit_uri}
        with ServiceRpcProxy("orders", timeout=20) as orders:
            assert orders.create(4) == 8

    def test_a_message_is_taken(rabbit_config, get_message_from_queue):
        from nameko.amqp import get_producer
        if rabbit_config["AMQP_URI"].startswith("memory:"):
            with pytest.raises(NotImplementedError, match="give AMQP_URI a RabbitMQ"):
                get_message_from_queue("things")
            return
        with get_producer(rabbit_config["AMQP_URI"]) as producer:
            Queue("things")(producer.channel).declare()
            producer.publish("tea", exchange="", routing_key="things")
        assert get_message_from_queue("things", ack=False, timeout=20).payload == "tea"
        assert get_message_from_queue("things", timeout=20, accept=["text/plain"]).payload == "tea"
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
    assert "7 passed" in run_tests(tmp_path)
