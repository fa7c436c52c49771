"""A broker with the management plugin, and both sides of a takeover on it."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from micro_framework.cli import main
from micro_framework.config import Settings
from micro_framework.takeover.management import Management
from micro_framework.takeover.procedure import Takeover
from micro_framework.testing.broker_state import VHost
from micro_framework.testing.management import ManagementAdmin
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port
from micro_framework.wire.takeover import Names

SERVICE = "orders"


@pytest.fixture(scope="session")
def managed_node() -> Iterator[tuple[RabbitMQNode, ManagementAdmin]]:
    """A node of our own with the HTTP API, and who looks at it."""
    port = free_port()
    # The API tells of consumers sooner than after 5 s.
    statistics = "collect_statistics_interval = 500"
    config = ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {port}", statistics]
    with RabbitMQNode(extra_config=config, plugins=["rabbitmq_management"]) as node:
        yield node, ManagementAdmin(node.uri, f"http://127.0.0.1:{port}")


@pytest.fixture
def managed(managed_node: tuple[RabbitMQNode, ManagementAdmin]) -> ManagementAdmin:
    """Who looks at it."""
    return managed_node[1]


@pytest.fixture
def vhost(managed: ManagementAdmin) -> Iterator[VHost]:
    """A virtual host of the test's own."""
    vhost = managed.vhost()
    yield vhost
    managed.delete_vhost(vhost.name)


@pytest.fixture
def management(vhost: VHost, managed: ManagementAdmin) -> Management:
    """The HTTP API of the test's virtual host."""
    return Management(vhost.uri, managed.management_uri)


@pytest.fixture
def names() -> Names:
    return Names(SERVICE)


@pytest.fixture
def said() -> list[str]:
    """What a takeover has said."""
    return []


@pytest.fixture
def takeover(names: Names, management: Management, said: list[str], vhost: VHost) -> Takeover:
    return Takeover(names, management, said.append, Settings.from_mapping({"AMQP_URI": vhost.uri}))


@pytest.fixture
def migrate(vhost: VHost, managed: ManagementAdmin) -> Callable[..., Result]:
    """The command."""

    def run(command: str, *arguments: str, service: str = SERVICE) -> Result:
        options = ["--broker", vhost.uri, "--management", managed.management_uri]
        order = [*arguments] if command in ("prepare", "status", "finish", "rollback") else [service, *arguments]
        if service not in order:
            order = [service, *order]
        return CliRunner().invoke(main, ["migrate", command, *order, *options])

    return run
