"""Nameko's pytest fixtures: ``pytest_plugins = ["nameko_compat.testing.pytest"]``.

Without ``--amqp-uri`` a test that asks for a broker gets the embedded one, of its own; with it, a virtual host of its
own on that RabbitMQ, which needs the management plugin (``--rabbit-api-uri``).
"""

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock, patch

import pytest

from micro_framework.testing.management import ManagementAdmin
from nameko_compat.absent import refusing
from nameko_compat.constants import AMQP_URI_CONFIG_KEY, WEB_SERVER_CONFIG_KEY
from nameko_compat.containers import ServiceContainer, get_container_cls
from nameko_compat.runners import ServiceRunner
from nameko_compat.testing.utils import find_free_port
from nameko_compat.versions import split_config

__all__ = [
    "amqp_uri",
    "container_factory",
    "empty_config",
    "mock_container",
    "predictable_call_ids",
    "pytest_addoption",
    "rabbit_config",
    "runner_factory",
    "web_config",
    "web_config_port",
]


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
def empty_config() -> dict[str, Any]:
    """A configuration with nothing in it."""
    return {}


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
def rabbit_config(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A configuration with a broker of the test's own."""
    uri = request.config.getoption("RABBIT_AMQP_URI")
    if uri is None:
        yield {AMQP_URI_CONFIG_KEY: f"memory://{uuid.uuid4().hex}"}
        return
    admin = ManagementAdmin(uri, request.config.getoption("RABBIT_API_URI"))
    vhost = admin.vhost()
    yield {AMQP_URI_CONFIG_KEY: vhost.uri, "vhost": vhost.name, "username": admin.user}
    admin.delete_vhost(vhost.name)


@pytest.fixture
def amqp_uri(rabbit_config: Mapping[str, Any]) -> str:
    """The URI of that broker."""
    uri: str = rabbit_config[AMQP_URI_CONFIG_KEY]
    return uri


@pytest.fixture
def container_factory() -> Iterator[Callable[..., Any]]:
    """Makes containers, ``container_factory(service_cls, config)``, and kills them at the end."""
    made: list[Any] = []

    def make(service_cls: type, config: Mapping[str, Any] | None = None) -> Any:
        given = () if config is None else (config,)
        made.append(get_container_cls(config)(service_cls, *given))
        return made[-1]

    yield make
    for container in made:
        container.kill()
        container.stop()


@pytest.fixture
def runner_factory() -> Iterator[Callable[..., ServiceRunner]]:
    """Makes runners, ``runner_factory(config, *services)``, and kills them at the end."""
    made: list[ServiceRunner] = []

    def make(*args: Any) -> ServiceRunner:
        config, services = split_config(args)
        runner = ServiceRunner(config if len(services) < len(args) else None)
        for service in services:
            runner.add_service(service)
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.kill()
        runner.stop()


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
def web_config(empty_config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with a free port for the web server."""
    empty_config[WEB_SERVER_CONFIG_KEY] = f"127.0.0.1:{find_free_port()}"
    return empty_config


@pytest.fixture
def web_config_port(web_config: Mapping[str, Any]) -> int:
    """That port."""
    return int(web_config[WEB_SERVER_CONFIG_KEY].rpartition(":")[2])


__getattr__ = refusing(__name__)
