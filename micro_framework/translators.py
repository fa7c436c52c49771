"""Message translators: change a message on its way to the target.

Translators get the decoded payload (events and queues) or the `Call` (RPC and WebSocket) and return what the next one,
and at last the target, gets. They are chained in list order.
"""

import json
from collections.abc import Iterable
from typing import Any

__all__ = ["JSONTranslator", "MessageTranslator", "translate"]


class MessageTranslator:
    """Base class of translators; one instance serves all workers, so keep no state of a call in it."""

    def translate_message(self, message: Any) -> Any:
        """Return what takes the message's place.

        Args:
            message: The decoded payload, or what the translator before returned.

        Raises:
            Exception: Anything raised is a failure of the call: it is logged, retried or given to the callback.
        """
        raise NotImplementedError(f"{type(self).__name__} must define translate_message(message)")


class JSONTranslator(MessageTranslator):
    """Decodes a payload that arrives as JSON text (``str`` or ``bytes``); anything else passes as it is."""

    def translate_message(self, message: Any) -> Any:
        """Return the decoded JSON document."""
        return json.loads(message) if isinstance(message, str | bytes) else message


def translate(translators: Iterable[MessageTranslator], message: Any) -> Any:
    """Send a message through a chain of translators, in order."""
    for translator in translators:
        message = translator.translate_message(message)
    return message
