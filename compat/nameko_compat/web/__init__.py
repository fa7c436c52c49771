"""Nameko's HTTP and WebSocket entrypoints; they need werkzeug: ``pip install micro-framework[nameko-web]``."""

import importlib.util

__all__: list[str] = []

if importlib.util.find_spec("werkzeug") is None:
    hint = "nameko.web hands out werkzeug's requests: pip install 'micro-framework[nameko-web]'"
    raise ImportError(hint, name=__name__)
