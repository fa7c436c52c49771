"""The configuration: from a file's text to validated, typed settings; all of it functions of their arguments.

`text` reads YAML with Nameko's environment substitution, and is not imported here, for YAML costs every start; `keys`
is the table of known keys, `kinds` what they may hold, `reading` goes through a mapping with the table, `settings` is
the result, `uris` checks broker URIs and takes passwords out of whatever is shown, `spelling` finds the word that was
meant.
"""

from micro_framework.config.settings import (
    NO_DEADLINE,
    ContextSettings,
    MetricsSettings,
    SerializerSettings,
    Settings,
    WebSocketSettings,
)
from micro_framework.config.uris import redact, redact_uri

__all__ = [
    "NO_DEADLINE",
    "ContextSettings",
    "MetricsSettings",
    "SerializerSettings",
    "Settings",
    "WebSocketSettings",
    "redact",
    "redact_uri",
]
