"""Hosting unmodified Nameko services: what ``micro-framework run --nameko`` does when it has found them."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from micro_framework.exceptions import ConfigError, DeclarationError
from micro_framework.runner import Runner
from nameko_compat import config as process_config
from nameko_compat.containers import get_container_cls
from nameko_compat.exceptions import ConfigurationError
from nameko_compat.extensions import ENTRYPOINT_EXTENSIONS_ATTR
from nameko_compat.hook import install
from nameko_compat.workers import finish

__all__ = ["has_entrypoint", "make_runner", "prepare"]


def prepare(config: Mapping[str, Any]) -> None:
    """Make ``import nameko`` mean this package, and hold the configuration where 3.x's services look for it.

    Call before a service is imported.
    """
    install()
    process_config.setup(config)


def has_entrypoint(service: type) -> bool:
    """Whether a class has a method that an entrypoint of Nameko's kind drives."""
    methods = inspect.getmembers_static(service, inspect.isfunction)
    return any(getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, None) for _, method in methods)


def make_runner(services: Sequence[Any], config: dict[str, Any]) -> Runner:
    """One runner for all services, each with workers of its own.

    Args:
        services: Service classes.
        config: The configuration.

    Raises:
        DeclarationError: What they declare cannot be used.
        ConfigError: The configuration cannot be used.
    """
    try:
        container_cls = get_container_cls(config)
        contexts = [container_cls(service, config).context() for service in services]
    except ConfigurationError as error:
        raise ConfigError("the configuration cannot be used", [str(error)]) from error
    except (ValueError, NotImplementedError, ImportError) as error:
        raise DeclarationError("the service cannot run as it is declared", [str(error)]) from error
    runner = Runner(contexts, config)
    runner.observers.append(finish)
    return runner
