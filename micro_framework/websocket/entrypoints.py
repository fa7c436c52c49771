"""`WebSocketListener`: targets that browsers and other WebSocket clients call."""

import logging
from collections.abc import Sequence
from typing import Any

from micro_framework.calls import Call, CallIdentity, Outcome
from micro_framework.entrypoints import Entrypoint
from micro_framework.exceptions import IncorrectSignature, ServiceBusy
from micro_framework.identifiers import new_identifier
from micro_framework.redaction import shown_arguments
from micro_framework.websocket.peers import WebSocketCall
from micro_framework.websocket.server import WebSocketServer
from micro_framework.wire.headers import new_call_id

__all__ = ["WebSocketListener"]


class WebSocketListener(Entrypoint):
    """Runs the target for requests over WebSocket and replies with what it returns or raises.

    All such targets of a process are called through one port, by the names of their methods. Requests and replies:
    `micro_framework.websocket.frames`.

    Args:
        expected_exceptions: Classes that are part of the method's contract: logged as warnings, not as errors.
        sensitive_arguments: Arguments, or paths into them (``card.number``), that no log shows.
    """

    server = WebSocketServer()
    called_from_outside = True

    def __init__(
        self,
        *,
        expected_exceptions: Sequence[type[BaseException]] = (),
        sensitive_arguments: Sequence[str] = (),
    ) -> None:
        self.expected_exceptions = tuple(expected_exceptions)
        self.sensitive_arguments = tuple(sensitive_arguments)

    def claim(self) -> str | None:
        """All targets of a process share one table of names."""
        return f"the WebSocket command {self.route.method!r}"

    def described(self) -> dict[str, Any]:
        """The command, and where."""
        settings = self.host.settings
        where = f"{settings.websocket_ip}:{settings.websocket_port}"
        return {**super().described(), "command": self.route.method, "address": where}

    def setup(self) -> None:
        """Become callable."""
        self.server.offer(self.route)

    def stop(self) -> None:
        """Take no more calls."""
        self.server.refuse_new()

    def to_call(self, item: WebSocketCall) -> Call:
        """A call at the root of a new call id stack."""
        service, method = self.route.service, self.route.method
        identity = CallIdentity(service, method, (new_call_id(service, method, new_identifier()),))
        return Call(identity, item.request.args, item.request.kwargs, context={})

    def settle(self, item: WebSocketCall, outcome: Outcome) -> None:
        """Reply."""
        item.answer(outcome)

    def hand_back(self, item: WebSocketCall) -> None:
        """It was not run: its caller may try again."""
        item.answer(
            Outcome(error=ServiceBusy("the call was not run, for the service is stopping or hindered; try again"))
        )

    def severity(self, error: BaseException) -> int:
        """Errors that the caller makes, or must expect, are warnings."""
        return logging.WARNING if isinstance(error, (*self.expected_exceptions, IncorrectSignature)) else logging.ERROR

    def shown(self, call: Call) -> str:
        """The arguments, without the sensitive ones."""
        parameters, sensitive = self.route.describe()["parameters"], self.sensitive_arguments
        return f", called with {shown_arguments(call.args, call.kwargs, parameters=parameters, sensitive=sensitive)}"
