"""Counts primes, in plain Python: work for processes. What only waits stays on threads of the same service."""

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.dependencies import Logger
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import TaskTimeout, WorkerDied
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import route


class Primes:
    name = "primes"

    dispatch = Producer()
    log = Logger()

    @TimeEntrypoint(interval=5, eager=True)
    def ask(self):
        for below in range(10_000, 50_000, 10_000):
            self.dispatch("asked", {"below": below})

    @route(
        EventListener("primes", "asked"),
        context="cpu",
        backoff=AsyncBackOff(max_retries=1, interval=1_000, exception_list=[WorkerDied, TaskTimeout]),
        on_failure="not_counted",
    )
    def count(self, payload):
        below = payload["below"]
        found = sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, below))
        self.dispatch("counted", {"below": below, "primes": found})

    def not_counted(self, payload, exception):
        self.log.error("nobody knows how many primes there are below %s: %s", payload["below"], exception)

    @EventListener("primes", "counted")
    def tell(self, payload):
        self.log.info("%s primes below %s", payload["primes"], payload["below"])
