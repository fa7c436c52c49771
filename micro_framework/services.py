"""Service classes: what a class declares, as routes."""

from collections.abc import Iterator

from micro_framework.entrypoints import TargetDeclaration, declarations
from micro_framework.routes import Route
from micro_framework.workers import Worker

__all__ = ["has_entrypoint", "routes_of", "service_name"]


def has_entrypoint(service: type) -> bool:
    """Whether a class has a method that an entrypoint drives."""
    return any(True for _ in declared(service))


def service_name(service: type) -> str | None:
    """The service's name as Nameko has it, the class attribute ``name``; None where there is none."""
    name = getattr(service, "name", None)
    return name if isinstance(name, str) and name else None


def routes_of(service: type) -> list[Route]:
    """A route for each entrypoint of each method, in the order in which they are written, base classes' after."""
    return [route_for(service, method, declaration) for method, declaration in declared(service)]


def declared(service: type) -> Iterator[tuple[str, TargetDeclaration]]:
    """Method names and their declarations; an override hides what it overrides, decorated or not."""
    seen: set[str] = set()
    for cls in service.__mro__:
        for name, value in vars(cls).items():
            if name not in seen:
                seen.add(name)
                yield from ((name, declaration) for declaration in declarations(unwrapped(value)))


def unwrapped(value: object) -> object:
    """What a static or class method wraps, so that a target hidden there is found and can be refused."""
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def route_for(service: type, method: str, declaration: TargetDeclaration) -> Route:
    """The route that one declaration on one method makes."""
    options = declaration.options
    route = Route(
        service,
        declaration.entrypoint,
        translators=options.get("translators"),
        worker_class=options.get("worker_class") or Worker,
        backoff=options.get("backoff"),
        method_name=method,
        metric_label=options.get("metric_label"),
    )
    route.context = options.get("context")
    route.dead_letter = options.get("dead_letter")
    set_callback(route, service, options.get("on_failure"))
    return route


def set_callback(route: Route, service: type, on_failure: object | None) -> None:
    """Where the callback is: on the class if it is a plain name or a method of it, else a function or a dotted path."""
    method = on_failure if isinstance(on_failure, str) and "." not in on_failure else method_called(service, on_failure)
    if method is not None:
        route.callback, route.callback_method = service, method
    else:
        route.callback = on_failure


def method_called(service: type, function: object | None) -> str | None:
    """The name under which a class has a function: inside the class body it is as good as its name."""
    found = (name for cls in service.__mro__ for name, value in vars(cls).items() if value is function)
    return None if function is None else next(found, None)
