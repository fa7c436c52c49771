"""Nameko's pytest fixtures: ``pytest_plugins = ["nameko_compat.testing.pytest"]``.

Without ``--amqp-uri`` a test that asks for a broker gets the embedded one, of its own; with it, a virtual host of its
own on that RabbitMQ, which needs the management plugin (``--rabbit-api-uri``).
"""

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock, patch
from urllib.parse import urljoin

import pytest

from micro_framework.testing.management import ManagementAdmin
from nameko_compat import config as process_config
from nameko_compat.absent import refusing
from nameko_compat.amqp.publish import get_connection
from nameko_compat.constants import AMQP_URI_CONFIG_KEY, WEB_SERVER_CONFIG_KEY
from nameko_compat.containers import ServiceContainer, get_container_cls
from nameko_compat.runners import ServiceRunner
from nameko_compat.testing.utils import find_free_port
from nameko_compat.testing.websocket import VirtualSocket, make_virtual_socket
from nameko_compat.versions import split_config

__all__ = [
    "amqp_uri",
    "container_factory",
    "empty_config",
    "get_message_from_queue",
    "kept_config",
    "mock_container",
    "predictable_call_ids",
    "pytest_addoption",
    "rabbit_config",
    "rabbit_uri",
    "runner_factory",
    "web_config",
    "web_config_port",
    "web_session",
    "websocket",
]

CLOSE_SECONDS = 10.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Nameko's options."""
    parser.addoption(
        "--amqp-uri",
        "--rabbit-amqp-uri",
        dest="RABBIT_AMQP_URI",
        default=None,
        help="RabbitMQ for the fixture rabbit_config, each test in a virtual host of its own; without it: memory://.",
    )
    parser.addoption(
        "--rabbit-api-uri",
        "--rabbit-ctl-uri",
        dest="RABBIT_API_URI",
        default=None,
        help="Its management API; without it: port 15672 of the same host.",
    )


@pytest.fixture
def kept_config() -> Iterator[None]:
    """Puts ``nameko.config`` back as it was, in whatever order the fixtures that change it end."""
    with process_config.patch({}):
        yield


@pytest.fixture
def empty_config(kept_config: None) -> Iterator[dict[str, Any]]:
    """A configuration with nothing in it; ``nameko.config`` is empty meanwhile."""
    with process_config.patch({}, clear=True):
        yield {}


@pytest.fixture
def mock_container() -> Any:
    """A mock of a container."""
    container = MagicMock(spec=ServiceContainer)
    container.config = {}
    container.shared_extensions = {}
    container.max_workers = 1
    container.service_name = "mock_container"
    return container


@pytest.fixture
def rabbit_config(request: pytest.FixtureRequest, kept_config: None) -> Iterator[dict[str, Any]]:
    """A configuration with a broker of the test's own; ``nameko.config`` names that meanwhile."""
    uri = request.config.getoption("RABBIT_AMQP_URI")
    if uri is None:
        chosen = {AMQP_URI_CONFIG_KEY: f"memory://{uuid.uuid4().hex}"}
        with process_config.patch(chosen):
            yield chosen
        return
    admin = ManagementAdmin(uri, request.config.getoption("RABBIT_API_URI"))
    vhost = admin.vhost()
    with process_config.patch({AMQP_URI_CONFIG_KEY: vhost.uri}):
        yield {AMQP_URI_CONFIG_KEY: vhost.uri, "vhost": vhost.name, "username": admin.user}
    admin.delete_vhost(vhost.name)


@pytest.fixture
def rabbit_uri(rabbit_config: Mapping[str, Any]) -> str:
    """As `amqp_uri`."""
    uri: str = rabbit_config[AMQP_URI_CONFIG_KEY]
    return uri


@pytest.fixture
def amqp_uri(rabbit_config: Mapping[str, Any]) -> str:
    """The URI of that broker."""
    uri: str = rabbit_config[AMQP_URI_CONFIG_KEY]
    return uri


@pytest.fixture
def get_message_from_queue(amqp_uri: str) -> Callable[..., Any]:
    """Takes a message from a queue: ``get_message_from_queue(name, ack=True, block=True, timeout=1, accept=None)``.

    Needs RabbitMQ (``--amqp-uri``).
    """

    def get(name: str, ack: bool = True, block: bool = True, timeout: float = 1, accept: Any = None) -> Any:
        # A channel of its own: what the consumer was given besides goes back when that is closed.
        with get_connection(amqp_uri) as connection, connection.channel() as channel:
            waiting = connection.SimpleQueue(name, channel=channel)
            if accept is not None:
                waiting.consumer.accept = accept
            message = waiting.get(block=block, timeout=timeout)
            if ack:
                message.ack()
            else:
                message.requeue()
            return message

    return get


class Made:
    """What a factory has made, and the changes of ``nameko.config`` for it; all undone at the end, the last first."""

    def __init__(self) -> None:
        self.undo = contextlib.ExitStack()

    def chosen(self, config: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], ...]:
        """The configuration for the next: what was given, besides what ``nameko.config`` holds already (3.x)."""
        if not config:
            return () if config is None else (config,)
        whole = config if process_config.keys() <= config.keys() else {**process_config, **config}
        self.undo.enter_context(process_config.patch(config))
        return (whole,)

    def keep(self, made: Any) -> None:
        """Kill it at the end."""
        self.undo.callback(made.stop)
        self.undo.callback(made.kill)


@pytest.fixture
def container_factory(kept_config: None) -> Iterator[Callable[..., Any]]:
    """Makes containers, ``container_factory(service_cls, config)``, and kills them at the end."""
    made = Made()

    def make(service_cls: type, config: Mapping[str, Any] | None = None) -> Any:
        given = made.chosen(config)
        container = get_container_cls(*given)(service_cls, *given)
        made.keep(container)
        return container

    with made.undo:
        yield make


@pytest.fixture
def runner_factory(kept_config: None) -> Iterator[Callable[..., ServiceRunner]]:
    """Makes runners, ``runner_factory(config, *services)``, and kills them at the end."""
    made = Made()

    def make(*args: Any) -> ServiceRunner:
        config, services = split_config(args)
        runner = ServiceRunner(*made.chosen(config if len(services) < len(args) else None))
        for service in services:
            runner.add_service(service)
        made.keep(runner)
        return runner

    with made.undo:
        yield make


@pytest.fixture
def predictable_call_ids() -> Iterator[Any]:
    """Call ids that end in 0, 1, 2 and so on."""
    numbers = MagicMock(side_effect=(str(number) for number in itertools.count()))
    with (
        patch("nameko_compat.workers.new_call_id", new=numbers),
        patch("micro_framework.amqp.arriving.new_identifier", new=numbers),
        patch("micro_framework.entrypoints.new_identifier", new=numbers),
    ):
        yield numbers


@pytest.fixture
def web_config(request: pytest.FixtureRequest, kept_config: None) -> Iterator[dict[str, Any]]:
    """A configuration with a free port for the web server, which ``nameko.config`` names meanwhile.

    The very one of ``empty_config``, if the test uses both (2.x).
    """
    named = "empty_config" in request.fixturenames
    chosen: dict[str, Any] = request.getfixturevalue("empty_config") if named else {}
    chosen[WEB_SERVER_CONFIG_KEY] = f"127.0.0.1:{find_free_port()}"
    with process_config.patch(chosen):
        yield chosen


@pytest.fixture
def web_config_port(web_config: Mapping[str, Any]) -> int:
    """That port."""
    return int(web_config[WEB_SERVER_CONFIG_KEY].rpartition(":")[2])


@pytest.fixture
def web_session(web_config_port: int) -> Iterator[Any]:
    """A session of requests whose paths are the web server's: ``web_session.get("/orders/1")``. Needs requests."""
    requests = pytest.importorskip("requests", reason="the fixture web_session needs requests: pip install requests")

    class WebSession(requests.Session):  # type: ignore[misc, name-defined]
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            return super().request(method, urljoin(f"http://127.0.0.1:{web_config_port}/", url), *args, **kwargs)

    with WebSession() as session:
        yield session


@pytest.fixture
def websocket(web_config_port: int) -> Iterator[Callable[[], VirtualSocket]]:
    """Opens connections to the web server: ``ws = websocket()``, ``ws.rpc("method", name=value)``."""
    with contextlib.ExitStack() as opened:

        def make() -> VirtualSocket:
            client, wait_until_open = make_virtual_socket("127.0.0.1", web_config_port)
            thread = client.start()
            opened.callback(thread.join, CLOSE_SECONDS)
            opened.callback(client.close)
            return wait_until_open()

        yield make


__getattr__ = refusing(__name__)
