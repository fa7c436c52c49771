"""``http``: methods called by requests, their responses, and the end."""

import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Response

from nameko_compat.containers import ServiceContainer
from nameko_compat.exceptions import BadRequest, ConfigurationError
from nameko_compat.extensions import DependencyProvider
from nameko_compat.testing.services import entrypoint_waiter
from nameko_compat.testing.utils import find_free_port
from nameko_compat.web.handlers import HttpRequestHandler, http as http_entrypoint
from nameko_compat.web.server import WebServer, parse_address
from tests.nameko_compat.peers import Context
from tests.outside import SECONDS


class Known(Exception): ...


class Refused(BadRequest): ...


class Server(WebServer):
    """Takes the language from a header, and puts middleware around."""

    def context_data_from_headers(self, request: Any) -> dict[str, Any]:
        return {"language": request.headers.get("Accept-Language")}

    def get_wsgi_app(self) -> Any:
        app = super().get_wsgi_app()

        def marked(environ: Any, start_response: Any) -> Any:
            def start(status: str, headers: Any, exc_info: Any = None) -> Any:
                return start_response(status, [*headers, ("X-Middleware", "yes")], exc_info)

            return app(environ, start)

        return marked


class Handler(HttpRequestHandler):
    server = Server()


special = Handler.decorator
running, may_end = threading.Event(), threading.Event()


class Shop:
    name = "shop"
    context = Context()

    @http_entrypoint("GET", "/get/<int:value>")
    def get(self, request: Any, value: int) -> str:
        return f"value={value} {request.args.get('q')}"

    @http_entrypoint("POST,PUT", "/post", sensitive_arguments="request")
    def post(self, request: Any) -> Any:
        return 201, {"X-Thing": "1"}, request.get_data(as_text=True)

    @http_entrypoint("GET", "/two")
    def two(self, request: Any) -> Any:
        return 202, "accepted"

    @http_entrypoint("GET", "/response")
    def response(self, request: Any) -> Any:
        return Response(b"raw", mimetype="application/x-raw")

    @http_entrypoint("GET", "/bad")
    def bad(self, request: Any) -> Any:
        return {"not": "text"}

    @http_entrypoint("GET", "/err/<kind>", expected_exceptions=Known)
    def err(self, request: Any, kind: str) -> None:
        raise {"known": Known("expected"), "bad": Refused("your fault")}.get(kind) or ValueError("unexpected")

    @http_entrypoint("GET", "/ids")
    def ids(self, request: Any) -> str:
        return str(len(self.context.call_id_stack))  # type: ignore[attr-defined]

    @http_entrypoint("GET", "/slow")
    def slow(self, request: Any) -> str:
        running.set()
        assert may_end.wait(SECONDS)
        return "at last"


@pytest.fixture(scope="module")
def address() -> str:
    return f"127.0.0.1:{find_free_port()}"


@pytest.fixture(scope="module")
def shop(address: str) -> Iterator[ServiceContainer]:
    container = ServiceContainer(Shop, {"WEB_SERVER_ADDRESS": address})
    container.start()
    yield container
    container.stop()


@pytest.fixture
def connection(address: str, shop: ServiceContainer) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection(address, timeout=SECONDS)
    yield made
    made.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Status, body and response."""
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read().decode(), response


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/get/7?q=x", None, 200, "value=7 x"),
        ("PUT", "/post", "body", 201, "body"),
        ("GET", "/two", None, 202, "accepted"),
        ("GET", "/response", None, 200, "raw"),
        ("GET", "/bad", None, 500, "Error: TypeError: Payload must be a string. Got `{'not': 'text'}`\n"),
        ("GET", "/err/known", None, 400, "Error: Known: expected\n"),
        ("GET", "/err/bad", None, 400, "Error: Refused: your fault\n"),
        ("GET", "/err/other", None, 500, "Error: ValueError: unexpected\n"),
        ("GET", "/ids", None, 200, "1"),
    ],
)
def test_a_request_is_answered(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None, status: int, text: str
) -> None:
    assert ask(connection, method, path, body)[:2] == (status, text)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/no", 404), ("GET", "/get/x", 404), ("GET", "/post", 405)]
)
def test_what_no_entrypoint_serves_is_refused(
    connection: http.client.HTTPConnection, method: str, path: str, status: int
) -> None:
    assert ask(connection, method, path)[0] == status


def test_headers_and_connections_are_as_they_should(connection: http.client.HTTPConnection) -> None:
    response = ask(connection, "POST", "/post", "x")[2]
    assert response.getheader("X-Thing") == "1"
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
    socket = connection.sock
    assert ask(connection, "HEAD", "/two")[:2] == (202, "")
    assert connection.sock is socket


def test_a_request_is_waited_for_by_tests(connection: http.client.HTTPConnection, shop: ServiceContainer) -> None:
    with entrypoint_waiter(shop, "two", timeout=SECONDS) as result:
        ask(connection, "GET", "/two")
    assert result.get() == (202, "accepted")


def test_a_running_request_is_answered_before_the_end(address: str) -> None:
    address = f"127.0.0.1:{find_free_port()}"
    running.clear()
    may_end.clear()
    container = ServiceContainer(Shop, {"WEB_SERVER_ADDRESS": address})
    container.start()
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    connection.request("GET", "/slow")
    assert running.wait(SECONDS)
    stopping = threading.Thread(target=container.stop)
    stopping.start()
    may_end.set()
    assert connection.getresponse().read() == b"at last"
    stopping.join(SECONDS)
    assert not stopping.is_alive()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address, timeout=SECONDS).request("GET", "/two")
    connection.close()


def test_servers_can_be_subclassed() -> None:
    class Service:
        name = "service"
        context = Context()

        @special("GET", "/language")
        def language(self, request: Any) -> str:
            return str(self.context.data["language"])  # type: ignore[attr-defined]

    address = f"127.0.0.1:{find_free_port()}"
    container = ServiceContainer(Service, {"WEB_SERVER_ADDRESS": address})
    container.start()
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    status, text, response = ask(connection, "GET", "/language", **{"Accept-Language": "de"})
    assert (status, text, response.getheader("X-Middleware")) == (200, "de", "yes")
    connection.close()
    container.stop()


def test_a_request_whose_dependency_is_missing_is_answered() -> None:
    class Broken(DependencyProvider):
        def worker_setup(self, worker_ctx: Any) -> None:
            raise ConnectionError("no database")

    class Service:
        name = "service"
        broken = Broken()

        @http_entrypoint("GET", "/")
        def index(self, request: Any) -> str:
            return "never"

    address = f"127.0.0.1:{find_free_port()}"
    container = ServiceContainer(Service, {"WEB_SERVER_ADDRESS": address})
    container.start()
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    assert ask(connection, "GET", "/")[:2] == (500, "Error: ConnectionError: no database\n")
    connection.close()
    container.stop()


def test_a_port_that_is_taken_keeps_the_service_from_starting(address: str, shop: ServiceContainer) -> None:
    with pytest.raises(OSError, match=r"in use"):
        ServiceContainer(Shop, {"WEB_SERVER_ADDRESS": address}).start()


@pytest.mark.parametrize("text", ["x", "1.2.3.4", "a:b:1", ":80x"])
def test_addresses_are_checked(text: str) -> None:
    with pytest.raises(ConfigurationError, match="Misconfigured bind address"):
        parse_address(text)


def test_addresses_are_read() -> None:
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_address("80") == ("", 80)
