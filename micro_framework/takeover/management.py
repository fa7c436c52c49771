"""The broker's HTTP API (the management plugin): the only way to list bindings, and to set a policy from afar."""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from micro_framework.exceptions import BrokerError

__all__ = ["MANAGEMENT_PORT", "Management", "ManagementRefused"]

MANAGEMENT_PORT = 15672
REQUEST_SECONDS = 20.0


class ManagementRefused(BrokerError):
    """The HTTP API answered with a refusal.

    Args:
        message: What was asked, and the answer.
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Management:
    """The HTTP API of one virtual host. Thread safe; no message of it holds a password.

    Args:
        amqp_uri: The broker's URI; user and password are those of the API too.
        management_uri: Where the API is; None: port 15672 of the same host.
    """

    def __init__(self, amqp_uri: str, management_uri: str | None = None) -> None:
        parts = urlsplit(amqp_uri.split(";")[0])
        self.vhost_name = unquote(parts.path[1:]) or "/"
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        given = urlsplit(management_uri or f"http://{parts.hostname or 'localhost'}:{MANAGEMENT_PORT}")
        if given.username is not None:
            user, password = unquote(given.username), unquote(given.password or "")
        host = given.netloc.rpartition("@")[2]
        self.where = f"{given.scheme}://{host}{given.path}".rstrip("/")
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request.

        Args:
            method: The HTTP method.
            path: The path below ``/api/``; ``{vhost}`` in it is the virtual host.
            body: What is sent as JSON.

        Raises:
            ManagementRefused: The answer is a refusal.
            BrokerError: Nobody answers there.
        """
        path = path.replace("{vhost}", quote(self.vhost_name, safe=""))
        request = urllib.request.Request(
            f"{self.where}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": self.authorization, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")[:300]
            raise ManagementRefused(f"{method} {path}: {error.code} {reason}", error.code) from None
        except OSError as error:
            raise BrokerError(
                f"no answer from the broker's management API at {self.where} ({error}); enable it on the broker "
                "(rabbitmq-plugins enable rabbitmq_management), or say where it is: --management http://HOST:15672"
            ) from None
        return json.loads(text) if text else None

    def version(self) -> tuple[int, ...]:
        """The broker's version, as numbers.

        Raises:
            BrokerError: No answer.
        """
        return tuple(map(int, re.findall(r"\d+", self.ask("GET", "overview")["rabbitmq_version"])[:3]))
