"""The two sides of a takeover, and callers."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from micro_framework.amqp.dependencies import LegacyService
from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.runner import Runner
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost

__all__ = ["METHODS", "Callers", "Executed", "new_side", "old_side", "plain_side"]

METHODS = ("alpha", "beta")


class Executed:
    """Which side ran each call, by its id; thread safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: list[tuple[str, str]] = []

    def note(self, side: str, call: str) -> None:
        with self.lock:
            self.runs.append((side, call))

    def counts(self) -> Counter[str]:
        with self.lock:
            return Counter(call for _, call in self.runs)


def service_class(executed: Executed, side: str, legacy: bool) -> type:
    class Orders:
        name = "orders"

        @RPCListener()
        def alpha(self, call: str) -> str:
            executed.note(side, call)
            return side

        @RPCListener()
        def beta(self, call: str) -> str:
            executed.note(side, call)
            return side

    if legacy:
        declaration = LegacyService()
        declaration.__set_name__(Orders, "legacy")
        Orders.legacy = declaration  # type: ignore[attr-defined]
    return Orders


@contextmanager
def side_of(vhost: VHost, executed: Executed, side: str, *, legacy: bool, exchange: str) -> Iterator[Runner]:
    config = {"AMQP_URI": vhost.uri, "rpc_exchange": exchange, "MAX_WORKERS": 3}
    with Runner([service_class(executed, side, legacy)], config) as runner:
        yield runner


def old_side(vhost: VHost, executed: Executed, exchange: str = "nameko-rpc"):  # type: ignore[no-untyped-def]
    """What behaves as a replica of the Nameko service: same queue, same binding, exchange as configured."""
    return side_of(vhost, executed, "old", legacy=False, exchange=exchange)


def new_side(vhost: VHost, executed: Executed):  # type: ignore[no-untyped-def]
    """The class that takes over."""
    return side_of(vhost, executed, "new", legacy=True, exchange="nameko-rpc")


def plain_side(vhost: VHost, executed: Executed):  # type: ignore[no-untyped-def]
    """The same class without `LegacyService`."""
    return side_of(vhost, executed, "plain", legacy=False, exchange="nameko-rpc")


class Callers:
    """Threads that call all methods, one call after the other, until the block ends; every answer is kept.

    Args:
        vhost: Where.
        threads: How many.
        methods: What they call in turn.
        prefix: What the identifiers of their calls begin with.
        pause: Seconds between two calls of a thread.
    """

    def __init__(
        self,
        vhost: VHost,
        threads: int = 3,
        methods: Sequence[str] = METHODS,
        prefix: str = "",
        pause: float = 0.005,
    ) -> None:
        self.vhost = vhost
        self.methods = methods
        self.prefix = prefix
        self.pause = pause
        self.ended = threading.Event()
        self.answers: list[tuple[str, object]] = []
        self.threads = [
            threading.Thread(target=self.work, args=(number,), name=f"mf-test-caller-{number}")
            for number in range(threads)
        ]

    def __enter__(self) -> "Callers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def work(self, number: int) -> None:
        with RPCClient(self.vhost.uri, timeout=30) as rpc:
            count = 0
            while not self.ended.is_set():
                count += 1
                call = f"{self.prefix}{number}-{count}"
                try:
                    answer: object = rpc.orders[self.methods[count % len(self.methods)]](call)
                except Exception as error:  # noqa: BLE001 - the test looks at it
                    answer = error
                self.answers.append((call, answer))
                self.ended.wait(self.pause)

    def wait_for_more(self, calls: int = 20) -> None:
        """Wait until so many more calls were answered."""
        goal, waited = len(self.answers) + calls, threading.Event()
        for _ in range(3000):
            if len(self.answers) >= goal:
                return
            waited.wait(0.01)
        raise AssertionError(f"only {len(self.answers)} calls were answered, {goal} expected")
