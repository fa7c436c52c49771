"""What the port for operators is told of the services that run in this process."""

from collections.abc import Callable, Iterable

from micro_framework.assembly import Assembly
from micro_framework.clock import Clock, SystemClock
from micro_framework.extensions import Extension, Lifecycle
from micro_framework.metrics.snapshots import Snapshot
from micro_framework.metrics.tallies import Tallies
from micro_framework.observe.health import Health, Stage
from micro_framework.spawners.base import Spawner
from micro_framework.spawners.process import ProcessSpawner
from micro_framework.spawners.thread import ThreadSpawner

__all__ = ["ServicesView"]


class ServicesView:
    """The services of this process.

    Args:
        assembly: What runs.
        tallies: What is counted.
        clock: The runner's clock.
        lifecycle: Where failures are reported.
        parts: Gives everything that has to be ready.
        stage: Gives what the runner is about.
    """

    def __init__(
        self,
        assembly: Assembly,
        tallies: Tallies,
        clock: Clock,
        lifecycle: Lifecycle,
        parts: Callable[[], Iterable[Extension | Spawner]],
        stage: Callable[[], Stage],
    ) -> None:
        self.assembly = assembly
        self.tallies = tallies
        self.clock = clock
        self.lifecycle = lifecycle
        self.parts = parts
        self.stage = stage

    @property
    def what(self) -> str:
        """The names of the services."""
        return ", ".join(dict.fromkeys(route.service for route in self.assembly.routes))

    def snapshot(self) -> Snapshot:
        """What has been counted here and in worker processes."""
        pools = self.assembly.spawners.items()
        here = self.tallies.snapshot()
        for name, pool in pools:
            if isinstance(pool, ThreadSpawner):
                label = (self.assembly.metric_labels.get(name, name),)
                workers, waiting = here.contexts.get(label, [0, 0])
                here.contexts[label] = [workers + len(pool.threads), waiting + pool.jobs.qsize()]
        remote = [pool.keeper.sources.total() for _, pool in pools if isinstance(pool, ProcessSpawner)]
        return Snapshot.sum([here, *remote])

    def health(self) -> Health:
        """How they are."""
        stage = self.stage()
        missing = [str(part) for part in list(self.parts()) if not part.is_ready()] if stage == "running" else []
        return Health(stage, self.dead(stage), [f"not ready: {part}" for part in dict.fromkeys(missing)])

    def dead(self, stage: Stage) -> list[str]:
        """What does not turn."""
        reasons = [
            f"{name}: its thread does nothing any more"
            for name, tally in list(self.tallies.connections.items())
            if not tally.connection.turns
        ]
        if self.lifecycle.failure is not None and stage == "running":
            reasons.append(f"it failed for good: {type(self.lifecycle.failure).__name__}")
        if isinstance(self.clock, SystemClock) and not self.clock.turns:
            reasons.append("the clock does not turn any more")
        if stage == "running":
            for name, pool in self.assembly.spawners.items():
                ended = pool.ended_threads() if isinstance(pool, ThreadSpawner) else []
                reasons += [f"context {name!r}: thread {thread} has ended" for thread in ended]
        return reasons
