"""``http``: methods called by HTTP requests."""

import threading
from functools import partial
from typing import Any

from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from nameko_compat.exceptions import BadRequest, ContainerBeingKilled, serialize
from nameko_compat.extensions import Entrypoint
from nameko_compat.web.server import WebServer

__all__ = ["HttpRequestHandler", "PendingResult", "http"]


class PendingResult:
    """The result of a call that another thread waits for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: Any = None
        self.exc_info: Any = None

    def send(self, result: Any, exc_info: Any) -> None:
        """It has ended."""
        self.result, self.exc_info = result, exc_info
        self.done.set()

    def wait(self) -> Any:
        """Wait for the end, however long the method takes: its container tells of every call, also of those not run.

        Raises:
            BaseException: What the method raised.
        """
        self.done.wait()
        if self.exc_info is not None:
            raise self.exc_info[1]
        return self.result


class HttpRequestHandler(Entrypoint):
    """Calls the method for requests: with the request, and what is variable in the URL by name.

    The method returns the body, or a status and the body, or a status, headers and the body, or a werkzeug response.

    Args:
        method: The HTTP method, or several with commas between.
        url: The path, as a werkzeug rule: ``/orders/<int:number>``.
        options: ``expected_exceptions`` are answered with 400; ``sensitive_arguments``.
    """

    server = WebServer()

    def __init__(self, method: str, url: str, **options: Any) -> None:
        self.method = method
        self.url = url
        super().__init__(**options)

    def get_url_rule(self) -> Rule:
        """Which requests it serves."""
        return Rule(self.url, methods=[each.strip() for each in self.method.split(",")])

    def setup(self) -> None:
        """Have the server know it."""
        self.server.register_provider(self)

    def stop(self) -> None:
        """Be served no more."""
        self.server.unregister_provider(self)
        super().stop()

    def get_entrypoint_parameters(self, request: Any) -> tuple[Any, Any]:
        """The arguments of the method."""
        return (request,), request.path_values

    def handle_request(self, request: Any) -> Response:
        """Have a worker call the method; the response."""
        request.shallow = False
        try:
            context_data = self.server.context_data_from_headers(request)
            args, kwargs = self.get_entrypoint_parameters(request)
            self.check_signature(args, kwargs)
            pending = PendingResult()
            self.container.spawn_worker(
                self, args, kwargs, context_data=context_data, handle_result=partial(self.handle_result, pending)
            )
            return self.response_from_result(pending.wait())
        except ContainerBeingKilled as error:
            return Response(f"Error: {type(error).__name__}: {error}\n", status=503)
        except Exception as error:  # noqa: BLE001 - it is the method's, and goes to the client
            return self.response_from_exception(error)

    def handle_result(self, pending: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        """The method has ended."""
        pending.send(result, exc_info)
        return result, exc_info

    def response_from_result(self, result: Any) -> Response:
        """The response for what the method returned.

        Raises:
            TypeError: Its body is no text.
        """
        if isinstance(result, Response):
            return result
        status, headers, payload = 200, None, result
        if isinstance(result, tuple):
            if len(result) == 3:
                status, headers, payload = result
            else:
                status, payload = result
        if not isinstance(payload, str):
            raise TypeError(f"Payload must be a string. Got `{payload!r}`")
        return Response(payload, status=status, headers=headers)

    def response_from_exception(self, exc: BaseException) -> Response:
        """The response for what the method raised."""
        is_the_clients = isinstance(exc, (BadRequest, *as_tuple(self.expected_exceptions)))
        error = serialize(exc)
        return Response(f"Error: {error['exc_type']}: {error['value']}\n", status=400 if is_the_clients else 500)


def as_tuple(kinds: Any) -> tuple[Any, ...]:
    """Exception classes as ``isinstance`` takes them, in a tuple."""
    return kinds if isinstance(kinds, tuple) else (kinds,)


http = HttpRequestHandler.decorator
