"""RPC over WebSocket, for browsers and whatever else speaks it: the same targets, another transport.

Rooms, each importing only from those before it: `frames` (requests and replies as text), `peers` (one connection to
somebody), `server` (all of them), `connection` (ours to somebody else's server), `entrypoints`, `dependencies`.
"""

__all__: list[str] = []
