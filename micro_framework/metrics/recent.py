"""The latest errors, for people who look: a few, shortened, and without what must not be seen."""

import re
import time
from collections import deque
from collections.abc import Iterable

from micro_framework.redaction import REDACTED

__all__ = ["MOST_ERRORS", "RecentError", "RecentErrors", "without_secrets"]

MOST_ERRORS = 50
LONGEST_TEXT = 300

RecentError = dict[str, str | float]
"""``time`` in seconds since 1970, ``service``, ``route``, ``call_id``, ``what`` became of it, ``type`` and ``text``."""

IN_URI = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/]*@", re.IGNORECASE)
NAMED = re.compile(
    r"((?:password|passwd|pwd|secret|token|api[_-]?key|authorization|bearer)[\"']?\s*(?:[=:]|\s)\s*(?:bearer\s+)?)"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&)}\]]+)",
    re.IGNORECASE,
)


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without passwords of URIs, without what is called a password, a secret or a token, and without secrets.

    Args:
        text: The text.
        secrets: What must not be seen wherever it stands.
    """
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return NAMED.sub(rf"\1{REDACTED}", IN_URI.sub(rf"\1:{REDACTED}@", text))


class RecentErrors:
    """The last `MOST_ERRORS` errors. Thread safe.

    Args:
        secrets: What must not be seen.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = tuple(secret for secret in secrets if secret)
        self.errors: deque[RecentError] = deque(maxlen=MOST_ERRORS)

    def note(self, service: str, route: str, call_id: str | None, what: str, error: BaseException) -> None:
        """Note an error; whatever its ``__str__`` does, this does not raise."""
        try:
            text = str(error)
        except Exception as unreadable:  # noqa: BLE001 - the user's exception may do anything
            text = f"(its text cannot be had: {type(unreadable).__name__})"
        # Cut before it is searched, so that a text of any length costs little; and after, to its length.
        text = without_secrets(text[: 4 * LONGEST_TEXT], self.secrets)
        self.errors.append(
            {
                "time": time.time(),
                "service": service,
                "route": route,
                "call_id": call_id or "",
                "what": what,
                "type": type(error).__name__,
                "text": text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…",
            }
        )

    def latest(self) -> list[RecentError]:
        """The errors, the latest last."""
        while True:
            try:
                return list(self.errors)
            except RuntimeError:  # another thread noted one meanwhile
                continue
