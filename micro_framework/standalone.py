"""Calling services and dispatching events from outside a service: Django, Flask, FastAPI, scripts, a shell.

Both clients are thread safe and long-lived: make one for the process, or use one as a context manager. They connect
when they are first used, and look after their connections as services do. After a fork (gunicorn's workers, for
instance) the child makes connections of its own when it first uses the client; the parent's are left alone.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from micro_framework.amqp.calls import CallSender, ClusterRPCProxy
from micro_framework.amqp.dependencies import Dispatch, Producer
from micro_framework.calls import Call, CallIdentity
from micro_framework.clock import SystemClock
from micro_framework.config import Settings
from micro_framework.dependencies import Dependency
from micro_framework.exceptions import ConfigError, MicroFrameworkError
from micro_framework.extensions import Host, Lifecycle, SharedExtensions, in_start_order, perform
from micro_framework.identifiers import new_identifier
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.proxies import ServiceProxy, checked_name, checked_timeout
from micro_framework.wire.headers import new_call_id
from micro_framework.wire.naming import STANDALONE_CLIENT

__all__ = ["EventProducer", "RPCClient"]

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=Dependency[Any])


class Outside:
    """The caller outside of any service, as a dependency knows it (`micro_framework.dependencies.RunningCall`).

    Args:
        host: Where the dependency is bound.
        context: The context data that goes with everything.
    """

    def __init__(self, host: Host, context: Mapping[str, Any]) -> None:
        self.host = host
        self.context = context
        self.identifier = new_identifier()

    @property
    def call(self) -> Call:
        """A call of its own for everything that is sent, as nameko 3.0.0rc11 has it."""
        call_id = new_call_id(self.host.service, self.identifier, new_identifier())
        return Call(CallIdentity(self.host.service, self.identifier, (call_id,)), context=self.context)


class OutsideOfCalls(Outside):
    """The same for events, which carry no call id stack there."""

    @property
    def call(self) -> Call:
        """No call: nobody's id."""
        return Call(CallIdentity(self.host.service, "", ()), context=self.context)


class Session(Generic[D]):
    """The connections of one client in one process: a dependency, bound and started outside of any runner.

    Args:
        settings: The configuration.
        service: The name in reply queues, and of the exchange that events go to.
        declaration: The dependency.
        caller: Who calls.
        context: The context data that goes with everything.

    Raises:
        ConfigError: It cannot work with this configuration.
    """

    def __init__(
        self, settings: Settings, service: str, declaration: D, caller: type[Outside], context: Mapping[str, Any]
    ) -> None:
        shared = SharedExtensions()
        host = Host(settings, service, "standalone", 1, 1, SystemClock(), Lifecycle(), shared)
        self.lifecycle = host.lifecycle
        self.outside = caller(host, context)
        self.dependency = shared.get(declaration, host)
        self.extensions = in_start_order([self.dependency])
        if problems := [problem for extension in self.extensions for problem in extension.problems()]:
            raise ConfigError("the client cannot be used", problems)

    @property
    def failed(self) -> bool:
        """Whether the broker refused it for good, so that another one is needed."""
        return self.lifecycle.failure is not None

    def open(self) -> None:
        """Begin to connect; returns at once.

        Raises:
            SetupFailed: It could not begin, for want of threads for instance; nothing of it is left.
        """
        for extension in self.extensions:
            perform(extension, "setup")
        try:
            for extension in self.extensions:
                perform(extension, "start")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections, within seconds each."""
        for extension in reversed(self.extensions):
            try:
                extension.stop()
            except Exception:
                logger.exception("%s could not be closed cleanly", extension)

    def close_when_dropped(self) -> None:
        """Close what nobody closed; called wherever the last reference went, or the collector found it."""
        if threading.current_thread().name.startswith("mf-"):
            # A connection's own thread cannot wait for itself to end.
            threading.Thread(target=self.close, name="mf-standalone-closing", daemon=True).start()
        else:
            self.close()


class StandaloneClient(Generic[D]):
    """What both clients share: one session per process, made when it is first needed.

    Args:
        config: The configuration, or just the broker's URI.
        service: The name in reply queues, and of the exchange that events go to.
        declaration: What the client uses.
        caller: Who calls, as a dependency knows it.
        context_data: Goes with everything that is sent.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        service: str,
        declaration: D,
        caller: type[Outside],
        context_data: Mapping[str, Any] | None,
    ) -> None:
        settings = Settings.from_mapping({"AMQP_URI": config} if isinstance(config, str) else config)
        context = dict(context_data or {})
        self._new_session: Callable[[], Session[D]] = partial(Session, settings, service, declaration, caller, context)
        self._new_session()  # whatever is wrong with the configuration is told here, and not at the first call
        self._opening = threading.Lock()
        self._session: Session[D] | None = None
        self._closing: weakref.finalize[..., Any] | None = None
        self._stopped = False
        open_clients.add(self)

    def _opened(self) -> Session[D]:
        """The session of this process."""
        session = self._session
        if session is None or session.failed or self._stopped:
            with self._opening:
                if self._stopped:
                    raise MicroFrameworkError(f"this {type(self).__name__} was stopped; make a new one")
                failed = self._detached() if self._session is not None and self._session.failed else None
                session = self._session or self._open()
            if failed is not None:
                failed.close()
        return session

    def _open(self) -> Session[D]:
        """Open a session; with the lock held."""
        session = self._new_session()
        session.open()
        # Closed also when the client is dropped without a stop, and at the end of the process.
        self._session, self._closing = session, weakref.finalize(self, session.close_when_dropped)
        return session

    def _detached(self) -> Session[D] | None:
        """The session, to be closed without the lock: callbacks that are waited for may use the client."""
        session, closing = self._session, self._closing
        self._session = self._closing = None
        return session if closing is not None and closing.detach() is not None else None

    def stop(self) -> None:
        """Close the connections; calls that still wait are told so. Idempotent."""
        with self._opening:
            self._stopped = True
            session = self._detached()
        if session is not None:
            session.close()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _forget_session(self) -> None:
        """In a forked child: the session is the parent's, and threads left behind may hold the lock."""
        self._opening = threading.Lock()
        if self._closing is not None:
            self._closing.detach()
        self._session = self._closing = None


open_clients: "weakref.WeakSet[StandaloneClient[Any]]" = weakref.WeakSet()


def forget_sessions() -> None:
    """After a fork, in the child."""
    for client in list(open_clients):
        client._forget_session()


os.register_at_fork(after_in_child=forget_sessions)


class RPCClient(StandaloneClient[ClusterRPCProxy]):
    """Calls any service: ``rpc.orders.create(7, items=[1])``, ``rpc["svc-name"].method.call_async(1).result(2)``.

    Every attribute is a service; item access reaches any name. Thread safe, fork safe.

    Args:
        config: The configuration, or just the broker's URI.
        timeout: Seconds to wait for an answer; None: ``RPC_TIMEOUT``; ``float("inf")``: for ever.
        context_data: Goes with every call, as Nameko's context data.

    Raises:
        ConfigError: The configuration cannot be used.
        ValueError: The timeout is not a number greater than 0.

    Source of the conventions: nameko 3.0.0rc11 standalone/rpc.py; seen on the wire.
    """

    __iter__ = None  # or Python would ask for the items 0, 1, 2 and so on, for ever

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        timeout: float | None = None,
        context_data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(config, STANDALONE_CLIENT, ClusterRPCProxy(), Outside, context_data)
        self._timeout = None if timeout is None else checked_timeout(timeout)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(f"{name} is no attribute of an RPCClient; if it is a service, write rpc[{name!r}]")
        return self[name]

    def __getitem__(self, name: str) -> ServiceProxy:
        return ServiceProxy(StandaloneSender(self), checked_name(name), self._timeout)


class StandaloneSender:
    """Sends the calls of a client's proxies through the session of the process that calls, whenever they were made."""

    __slots__ = ("client",)

    def __init__(self, client: RPCClient) -> None:
        self.client = client

    def send(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
        *,
        waited_for: bool,
    ) -> RPCFuture:
        """Send a call, see `micro_framework.rpc.proxies.Caller`."""
        session = self.client._opened()
        sender = CallSender(session.dependency.replies, session.outside)
        return sender.send(service, method, args, kwargs, timeout, waited_for=waited_for)


class EventProducer(StandaloneClient[Producer]):
    """Dispatches events as a service: ``dispatch("order_created", {"id": 1})``, ``dispatch.many([...])``.

    It declares the service's exchange, or adopts the one that is there. Thread safe, fork safe.

    Args:
        service_name: The service whose events they are.
        config: The configuration, or just the broker's URI.
        context_data: Goes with every event, as Nameko's context data.
        confirm_publish: Wait for the broker's confirm. False is faster and may lose events unnoticed.
        mandatory: Raise `Unroutable` when no queue is bound for an event.

    Raises:
        ConfigError: The configuration cannot be used.

    Source of the conventions: nameko 3.0.0rc11 standalone/events.py; seen on the wire.
    """

    def __init__(
        self,
        service_name: str,
        config: Mapping[str, Any] | str,
        context_data: Mapping[str, Any] | None = None,
        *,
        confirm_publish: bool = True,
        mandatory: bool = False,
    ) -> None:
        name: object = service_name
        if not isinstance(name, str) or not name:
            problem = f"service_name must be the name of a service, not {name!r}"
            raise ConfigError("the client cannot be used", [problem])
        producer = Producer(confirm_publish=confirm_publish, mandatory=mandatory)
        super().__init__(config, service_name, producer, OutsideOfCalls, context_data)

    def __call__(self, event_name: str, payload: Any = None) -> None:
        """Dispatch one event; as `Dispatch`."""
        self._dispatch()(event_name, payload)

    def many(self, events: Iterable[tuple[str, Any]]) -> None:
        """Dispatch many events without waiting for each; as `Dispatch.many`."""
        self._dispatch().many(events)

    def _dispatch(self) -> Dispatch:
        session = self._opened()
        return session.dependency.get_dependency(session.outside)
