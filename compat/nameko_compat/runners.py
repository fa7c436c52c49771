"""`ServiceRunner`: several services in one process."""

import logging
import threading
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from typing import Any

from nameko_compat.containers import get_container_cls, get_service_name
from nameko_compat.versions import chosen_config, split_config

__all__ = ["ServiceRunner", "run_services"]

logger = logging.getLogger(__name__)


class ServiceRunner:
    """Starts and stops containers together.

    Args:
        config: The configuration (2.x); None: ``nameko_compat.config`` (3.x).
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = chosen_config(config)
        self.given_config = config
        self.container_cls = get_container_cls(config)
        self.service_map: dict[str, Any] = {}

    @property
    def service_names(self) -> KeysView[str]:
        """The names of its services."""
        return self.service_map.keys()

    @property
    def containers(self) -> ValuesView[Any]:
        """Their containers."""
        return self.service_map.values()

    def add_service(self, cls: type) -> None:
        """Add a service class; one of the same name is replaced. Call before `start`."""
        config = () if self.given_config is None else (self.given_config,)
        self.service_map[get_service_name(cls)] = self.container_cls(cls, *config)

    def start(self) -> None:
        """Start every service, and return once all are ready; if one cannot, none is left running.

        Raises:
            Exception: Why one cannot.
        """
        started = []
        try:
            for container in self.containers:
                started.append(container)
                container.start()
        except BaseException:
            at_once(started, "stop")
            raise

    def stop(self) -> None:
        """Stop every service gracefully, all at the same time.

        Raises:
            CallsAbandoned: Calls of one were still running after ``SHUTDOWN_TIMEOUT``; all have been stopped anyway.
        """
        raise_first(at_once(self.containers, "stop"))

    def kill(self) -> None:
        """Stop every service without waiting for running calls, all at the same time."""
        at_once(self.containers, "kill")

    def wait(self) -> None:
        """Wait for the end of every service; if one fails, the others are stopped.

        Raises:
            BaseException: Why it failed.
        """
        try:
            for container in self.containers:
                container.wait()
        except BaseException:
            at_once(self.containers, "stop")
            raise


def at_once(containers: Iterable[Any], method: str) -> list[BaseException]:
    """Call a method of all containers at the same time, and return when all have returned; what they raised."""
    errors: list[BaseException] = []

    def call(container: Any) -> None:
        try:
            getattr(container, method)()
        except BaseException as error:
            logger.exception("%r: %s failed", container, method)
            errors.append(error)

    threads = [
        threading.Thread(target=call, args=(container,), name=f"mf-{method}-{container.service_name}", daemon=True)
        for container in containers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def raise_first(errors: Sequence[BaseException]) -> None:
    """Raise the first of the errors, if there is one."""
    if errors:
        raise errors[0]


@contextmanager
def run_services(*args: Any, kill_on_exit: bool = False) -> Iterator[ServiceRunner]:
    """Run services inside the block.

    Args:
        args: In 2.x the configuration, then service classes; in 3.x service classes alone.
        kill_on_exit: Stop them at once, instead of gracefully.
    """
    config, services = split_config(args)
    runner = ServiceRunner(config if len(services) < len(args) else None)
    for service in services:
        runner.add_service(service)
    runner.start()
    try:
        yield runner
    finally:
        if kill_on_exit:
            runner.kill()
        else:
            runner.stop()
