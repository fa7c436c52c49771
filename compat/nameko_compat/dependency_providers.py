"""`Config`: the configuration as a dependency."""

from typing import Any

from nameko_compat.extensions import DependencyProvider

__all__ = ["Config"]


class Config(DependencyProvider):
    """Gives a copy of the configuration."""

    def get_dependency(self, worker_ctx: Any) -> dict[str, Any]:
        """The copy."""
        return dict(self.container.config)
