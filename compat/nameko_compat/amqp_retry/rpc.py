"""``rpc`` whose methods may raise `Backoff`; the caller is answered once, at the end."""

from nameko_compat import rpc as nameko_rpc
from nameko_compat.amqp_retry.backoff import Retried

__all__ = ["Rpc", "rpc"]


class Rpc(Retried, nameko_rpc.Rpc):
    """As `nameko_compat.rpc.Rpc`."""


rpc = Rpc.decorator
