"""Dependencies that give one entry of the context data."""

from typing import Any

from nameko_compat.constants import (
    AUTH_TOKEN_CONTEXT_KEY,
    LANGUAGE_CONTEXT_KEY,
    USER_AGENT_CONTEXT_KEY,
    USER_ID_CONTEXT_KEY,
)
from nameko_compat.extensions import DependencyProvider

__all__ = ["AuthToken", "ContextDataProvider", "Language", "UserAgent", "UserId"]


class ContextDataProvider(DependencyProvider):
    """Gives the entry ``context_key`` of the context data, None where there is none; subclass it for other keys."""

    context_key: str | None = None

    def get_dependency(self, worker_ctx: Any) -> Any:
        """The entry."""
        return worker_ctx.data.get(self.context_key)


class Language(ContextDataProvider):
    """The caller's language."""

    context_key = LANGUAGE_CONTEXT_KEY


class UserId(ContextDataProvider):
    """The caller's user."""

    context_key = USER_ID_CONTEXT_KEY


class UserAgent(ContextDataProvider):
    """The caller's user agent."""

    context_key = USER_AGENT_CONTEXT_KEY


class AuthToken(ContextDataProvider):
    """The caller's token."""

    context_key = AUTH_TOKEN_CONTEXT_KEY
