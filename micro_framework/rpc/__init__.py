"""RPC without its transport: proxies and futures for those who call, the table of targets for those who are called.

Rooms, each importing only from those before it: `callbacks` (the threads that run what callers want to be told),
`futures` (one call that waits for its answer), `pending` (all of them), `proxies` (``self.payments.charge(...)``),
`manager` (what can be called), `discovery` (asking a service what that is).
"""

from micro_framework.rpc.discovery import TargetInfo, discover
from micro_framework.rpc.futures import RPCFuture
from micro_framework.rpc.manager import RPCManager
from micro_framework.wire.errors import register_exception

__all__ = ["RPCFuture", "RPCManager", "TargetInfo", "discover", "register_exception"]
