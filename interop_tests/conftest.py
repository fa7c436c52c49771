"""Real Nameko of both versions for the tests here; its output is shown with a test that fails."""

import contextlib
import uuid
from collections.abc import Generator, Iterator

import pytest

from interop_tests.nameko_process import Nameko, NamekoDriver
from micro_framework.testing.broker_state import BrokerAdmin, VHost

NAMEKO_VERSIONS = ("2.14.1", "3.0.0rc11")
TEST_SECONDS = 120

nameko_key = pytest.StashKey[Nameko]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"nameko", "shared_nameko"} & set(getattr(item, "fixturenames", ())) and not item.get_closest_marker(
            "timeout"
        ):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture(params=NAMEKO_VERSIONS)
def nameko(request: pytest.FixtureRequest, rabbit: VHost) -> Iterator[Nameko]:
    """Real Nameko on the test's virtual host, once for each version."""
    with contextlib.closing(Nameko(request.param, rabbit)) as real:
        request.node.stash[nameko_key] = real
        yield real


@pytest.fixture(scope="module", params=NAMEKO_VERSIONS)
def shared_nameko(request: pytest.FixtureRequest, broker: BrokerAdmin) -> Iterator[Nameko]:
    """Real Nameko on a virtual host that all tests of a module share, once for each version."""
    vhost = VHost(broker, broker.add_vhost())
    with contextlib.closing(Nameko(request.param, vhost)) as real:
        yield real
    broker.delete_vhost(vhost.name)


@pytest.fixture
def nameko_driver(nameko: Nameko) -> NamekoDriver:
    """Nameko's own standalone client and dispatcher."""
    return nameko.driver()


@pytest.fixture
def marker() -> str:
    """A payload that no other test sends: handlers remember what the whole module sent."""
    return uuid.uuid4().hex


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    shared = getattr(item, "funcargs", {}).get("shared_nameko")
    if report.failed and (shared is not None or nameko_key in item.stash):
        report.sections.extend((shared or item.stash[nameko_key]).outputs())
    return report
