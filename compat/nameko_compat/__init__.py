"""Nameko's Python names on the micro_framework runner, module for module.

``from nameko_compat.rpc import rpc, RpcProxy`` in place of ``from nameko.rpc import ...``: so a service moves over by
editing its imports, or by none at all under ``micro-framework run --nameko``. The names of Nameko 2.14.1 and of
3.0.0rc11 are both here; where a signature differs, a mapping as the first positional argument is 2.x's ``config``.
What is not here is refused by name; docs/nameko-compat.md lists every name of both versions.
"""

from collections import UserDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import wraps
from typing import Any

__all__ = ["Config", "ConfigPatch", "config"]


class ConfigPatch:
    """A change of the configuration for a block or a function; see `Config.patch`."""

    def __init__(self, target: "Config", changes: Mapping[str, Any], *, clear: bool) -> None:
        self.target = target
        self.changes = changes
        self.clear = clear
        self.original: dict[str, Any] = {}

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def patched(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return patched

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Change it, until `stop`."""
        self.original = deepcopy(self.target.data)
        if self.clear:
            self.target.data.clear()
        self.target.data.update(self.changes)

    def stop(self) -> None:
        """Put it back as it was."""
        self.target.setup(self.original)


class Config(UserDict[str, Any]):
    """The configuration of the process, as Nameko 3.x has it. Not for changes while services run."""

    def setup(self, config: Mapping[str, Any]) -> None:
        """Hold this instead of what was there."""
        fresh = dict(config)
        self.data.clear()
        self.data.update(fresh)

    def patch(self, context_config: Mapping[str, Any], clear: bool = False) -> ConfigPatch:
        """Changes for the time of a ``with`` block or of a decorated function.

        Args:
            context_config: The changed keys.
            clear: Whether they are all there is.
        """
        return ConfigPatch(self, context_config, clear=clear)


config = Config()
"""The configuration of the process; ``run --nameko`` fills it before it imports the services."""
