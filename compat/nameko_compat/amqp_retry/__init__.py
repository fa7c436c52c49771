"""The names of the package nameko-amqp-retry, 0.7, with the retries of micro_framework.

Under ``run --nameko``, ``import nameko_amqp_retry`` means this. A method that raises `Backoff` is tried again after the
time that its schedule says. The message waits in a stock RabbitMQ as every retry of ours does, not in queues of that
package. What runs out of attempts fails with `Backoff.Expired`.
"""

from nameko_compat.amqp_retry.backoff import Backoff, expect_backoff_exception
from nameko_compat.amqp_retry.decorators import entrypoint_retry

__all__ = ["Backoff", "entrypoint_retry", "expect_backoff_exception"]


def __getattr__(name: str) -> object:
    if name == "BackoffPublisher":
        raise ImportError(
            "nameko_amqp_retry.BackoffPublisher is not in nameko_compat: retries are not published by extensions here; "
            "use the entrypoints of nameko_amqp_retry.events, .rpc and .messaging",
            name=__name__,
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
