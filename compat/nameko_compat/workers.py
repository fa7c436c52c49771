"""One call of a Nameko service: its `WorkerContext`, and the hooks of its dependencies in Nameko's order.

A new instance; ``get_dependency`` of all, ``worker_setup`` of all; the method; the answer goes out and the message is
acknowledged; ``worker_result`` of all, ``worker_teardown`` of all. The last two are told by the route's observers, who
hear of a call once its message has its verdict.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from micro_framework.calls import Call, CallIdentity, Outcome
from micro_framework.extensions import Host
from micro_framework.routes import BoundRoute
from micro_framework.wire.headers import grow_stack, immediate_parent_call_id, origin_call_id
from micro_framework.workers import DependencyFailure, Worker
from nameko_compat.constants import (
    CALL_ID_STACK_CONTEXT_KEY,
    DEFAULT_PARENT_CALLS_TRACKED,
    PARENT_CALLS_CONFIG_KEY,
)
from nameko_compat.exceptions import ContainerBeingKilled
from nameko_compat.versions import api_of

__all__ = [
    "Firing",
    "NamekoCall",
    "NamekoWorker",
    "RunningContext",
    "WorkerContext",
    "call_of",
    "finish",
    "new_call_id",
]

logger = logging.getLogger(__name__)

HandleResult = Callable[..., tuple[Any, Any]]


def new_call_id() -> str:
    """The unique part of a call id."""
    return str(uuid.uuid4())


class WorkerContext:
    """What extensions know of one call.

    Args:
        container: The service's container.
        service: The instance whose method is called.
        entrypoint: What makes it run.
        args: The call's arguments.
        kwargs: Likewise.
        data: The context data; this very mapping becomes `data`.
        identity: The call's ids, where they are known already.
    """

    def __init__(
        self,
        container: Any,
        service: Any,
        entrypoint: Any,
        args: Any = None,
        kwargs: Any = None,
        data: Any = None,
        *,
        identity: CallIdentity | None = None,
    ) -> None:
        self.container = container
        self.service = service
        self.entrypoint = entrypoint
        self.service_name = container.service_name
        self.args = () if args is None else args
        self.kwargs = {} if kwargs is None else kwargs
        self.data = {} if data is None else data
        self.config = container.config
        parents = tuple(self.data.pop(CALL_ID_STACK_CONTEXT_KEY, None) or ())
        self.identity = identity or self.new_identity(parents)
        self.deadline: float | None = None
        self.given: list[Any] = []  # the dependency providers that have given something
        self.shows_stack = api_of(container.config) == 3
        if self.shows_stack:
            self.data[CALL_ID_STACK_CONTEXT_KEY] = self.call_id_stack

    def new_identity(self, parents: tuple[str, ...]) -> CallIdentity:
        """Ids for a call that those parents caused."""
        method = self.entrypoint.method_name
        tracked = self.config.get(PARENT_CALLS_CONFIG_KEY, DEFAULT_PARENT_CALLS_TRACKED)
        stack = grow_stack(parents, f"{self.service_name}.{method}.{new_call_id()}", tracked)
        return CallIdentity(
            self.service_name, method, stack, origin_call_id(parents), immediate_parent_call_id(parents)
        )

    @property
    def call_id(self) -> str:
        """``service.method.uuid``."""
        return self.identity.call_id

    @property
    def call_id_stack(self) -> list[str]:
        """The ids of the calls that led here, this one last."""
        return list(self.identity.stack)

    @property
    def origin_call_id(self) -> str | None:
        """The id of the call that began it all, None for this one."""
        return self.identity.origin

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the call that sent this one, None where nothing did."""
        return self.identity.parent

    @property
    def context_data(self) -> Any:
        """Context data and call id stack: with ``NAMEKO_API: 3`` `data` itself, else a copy."""
        return self.data if self.shows_stack else {**self.data, CALL_ID_STACK_CONTEXT_KEY: self.call_id_stack}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.service_name}.{self.entrypoint.method_name}] at 0x{id(self):x}>"


class RunningContext:
    """A worker context as micro_framework's dependencies know a call (`micro_framework.dependencies.RunningCall`)."""

    __slots__ = ("context",)

    def __init__(self, context: WorkerContext) -> None:
        self.context = context

    @property
    def call(self) -> Call:
        """The call, with the context data as it is now."""
        context = self.context
        return Call(context.identity, context=context.data, deadline=context.deadline)

    @property
    def host(self) -> Host:
        """The host of the container."""
        host: Host = self.context.container.host
        return host


@dataclass(frozen=True, slots=True)
class NamekoCall(Call):
    """A call of a Nameko service.

    Args:
        entrypoint: The bound entrypoint of Nameko's kind.
        worker_ctx: Its context, None before its worker has one.
        handle_result: Gets the result first, and says what it is then.
    """

    entrypoint: Any = None
    worker_ctx: Any = None
    handle_result: HandleResult | None = None


@dataclass(frozen=True, slots=True)
class Firing:
    """The item of a route whose call was asked for by ``spawn_worker``."""

    worker_ctx: WorkerContext
    handle_result: HandleResult | None = None

    def not_run(self) -> None:
        """Tell whoever waits for it that it is not run."""
        error = ContainerBeingKilled(f"{self.worker_ctx!r} was not run; its service stops, or lacks a dependency")
        logger.warning("%s", error)
        if self.handle_result is not None:
            try:
                self.handle_result(self.worker_ctx, None, (ContainerBeingKilled, error, None))
            except BaseException:
                logger.exception("handle_result of %r failed", self.worker_ctx)

    def call(self) -> NamekoCall:
        """The call."""
        context = self.worker_ctx
        return NamekoCall(
            context.identity,
            context.args,
            context.kwargs,
            context.data,
            entrypoint=context.entrypoint,
            worker_ctx=context,
            handle_result=self.handle_result,
        )


def call_of(entrypoint: Any, call: Call) -> NamekoCall:
    """A call that came with a message, as one of a Nameko service."""
    return NamekoCall(
        call.identity, call.args, call.kwargs, call.context, call.attempt, call.deadline, entrypoint=entrypoint
    )


class NamekoWorker(Worker):
    """Runs one call of a Nameko service."""

    __slots__ = ()

    call: NamekoCall

    def run(self) -> Outcome:
        """Inject, set up, call the method, have the result handled; never raises."""
        try:
            if self.call.worker_ctx is None:
                self.prepare()  # of `spawn_worker` the arguments are not a caller's; Python tells if they do not fit
            context = self.prepared_context()
        except BaseException as error:  # noqa: BLE001 - a failure of the call
            return Outcome(error=error)
        context.container._worker_threads[context] = threading.current_thread()
        unready = self.made_ready(context)
        if unready is not None:
            return self.not_ready(context, unready)
        return self.handled(context, self.run_method(context))

    def prepared_context(self) -> WorkerContext:
        """The call's worker context; made now, unless ``spawn_worker`` has."""
        call = self.call
        context: WorkerContext | None = call.worker_ctx
        if context is None:
            container = call.entrypoint.container
            context = WorkerContext(
                container,
                container.service_cls(),
                call.entrypoint,
                call.args,
                call.kwargs,
                call.context,
                identity=call.identity,
            )
            context.deadline = call.deadline
            self.call = replace(call, worker_ctx=context)
        return context

    def made_ready(self, context: WorkerContext) -> BaseException | None:
        """Inject the dependencies and set them up; what went wrong."""
        try:
            context.container._inject_dependencies(context)
            context.container._worker_setup(context)
        except BaseException as error:  # noqa: BLE001 - extensions may raise anything
            return error
        return None

    def not_ready(self, context: WorkerContext, error: BaseException) -> Outcome:
        """The method cannot run: a message goes back; whoever called ``spawn_worker`` is told."""
        if self.call.handle_result is not None:
            return self.handled(context, Outcome(error=error))
        failure = DependencyFailure(f"a dependency of {context!r}: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return Outcome(error=failure)

    def run_method(self, context: WorkerContext) -> Outcome:
        """Call the method."""
        method = getattr(context.service, context.entrypoint.method_name)
        try:
            return Outcome(method(*context.args, **context.kwargs))
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a method must not end its worker
            return Outcome(error=context.entrypoint.failed_with(error, self.call.attempt))

    def handled(self, context: WorkerContext, outcome: Outcome) -> Outcome:
        """The outcome as ``handle_result`` has it."""
        handle = self.call.handle_result
        if handle is None:
            return outcome
        try:
            result, exc_info = handle(context, outcome.result, exc_info_of(outcome))
        except BaseException as error:
            logger.exception("handle_result of %r failed", context)
            return Outcome(error=error)
        return Outcome(result, exc_info[1] if exc_info else None)


def exc_info_of(outcome: Outcome) -> Any:
    """What an outcome's error is as Nameko's hooks get it."""
    error = outcome.error
    return None if error is None else (type(error), error, error.__traceback__)


def finish(route: BoundRoute, call: Call, outcome: Outcome) -> None:
    """A call has ended and its message has its verdict: tell its dependencies. An observer of the runner."""
    context = call.worker_ctx if isinstance(call, NamekoCall) else None
    if context is None:
        return
    if not isinstance(outcome.error, DependencyFailure):
        each_hook(context, "_worker_result", outcome.result, exc_info_of(outcome))
    each_hook(context, "_worker_teardown")
    context.container._worker_threads.pop(context, None)


def each_hook(context: WorkerContext, hook: str, *args: Any) -> None:
    """Call a hook of the container; what a dependency raises is logged, the call has ended all the same."""
    try:
        getattr(context.container, hook)(context, *args)
    except BaseException:
        logger.exception("%s of %r failed", hook.lstrip("_"), context)
