"""The locks of cluster-wide timers, on whatever broker is behind the port."""

from collections.abc import Callable, Hashable

from micro_framework.amqp.doors import SharedDoor
from micro_framework.brokers.port import Lock, Locks
from micro_framework.cluster import ClusterLocks
from micro_framework.exceptions import DeclarationError
from micro_framework.extensions import Host

__all__ = ["BrokerLocks"]


class BrokerLocks(SharedDoor, ClusterLocks):
    """The connection of the process that holds locks, or waits for them. It closes after the last call has ended."""

    door: Locks

    def __str__(self) -> str:
        return "connection for cluster-wide timers"

    def sharing_key(self, host: Host) -> Hashable:
        """One per process."""
        return "process"

    def setup(self) -> None:
        """Make the door."""
        self.door = self.source.broker.locks("cluster")
        self.names: set[str] = set()

    def want(
        self,
        name: str,
        on_joined: Callable[[bool], None],
        on_held: Callable[[], None],
        on_word: Callable[[str], None],
    ) -> None:
        """Take part from the start on.

        Raises:
            DeclarationError: Another timer of this process has that name.
        """
        if name in self.names:
            problem = f"{name}: a method carries one TimeEntrypoint(cluster=True) at most; the other needs its own"
            raise DeclarationError("the service cannot run as it is declared", [problem])
        self.names.add(name)
        self.used = True
        self.door.want(Lock(name, on_joined, on_held, on_word))

    def announce(self, name: str, word: str, done: Callable[[bool], None]) -> None:
        """Tell everybody who takes part."""
        self.door.announce(name, word, done)
