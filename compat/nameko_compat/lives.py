"""A container's part in the runner: its extensions' hooks, at the right moments of the start and of the stop."""

import logging
from collections.abc import Iterable
from typing import Any, Self

from micro_framework.extensions import Extension, Host

__all__ = ["ContainerLife"]

logger = logging.getLogger(__name__)


class ContainerLife(Extension):
    """Sets the extensions of a container up, starts and stops them; nested in every adapter of the container.

    The runner starts what is nested before what holds it, and stops it after the workers have ended: so dependencies
    work before the first message comes and after the last call has ended. Entrypoints are stopped by their adapters,
    before that.

    Args:
        container: The container.
        extensions: Its extensions, whose parts of micro_framework are bound with this.
    """

    def __init__(self, container: Any, extensions: Iterable[Any]) -> None:
        self.container = container
        self.places: list[tuple[str, Any, str]] = []
        for extension in extensions:
            for attribute, part in extension.parts().items():
                name = f"part_{len(self.places)}"
                self.places.append((name, extension, attribute))
                self.__dict__[name] = part

    def __str__(self) -> str:
        return f"service {self.container.service_name!r}"

    def bind(self, host: Host) -> Self:
        """The copy that works; the extensions get their parts, bound."""
        bound = super().bind(host)
        self.container.host = host
        for name, extension, attribute in self.places:
            setattr(extension, attribute, getattr(bound, name))
        return bound

    def setup(self) -> None:
        """Set every extension up."""
        self.container.set_up_extensions()

    def start(self) -> None:
        """Start every extension."""
        self.container.start_extensions()

    def stop(self) -> None:
        """Stop what is not an entrypoint, then the threads that are left."""
        self.container.stop_extensions()
