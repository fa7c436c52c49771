"""The table of known keys: what each may hold, and what this version does not have yet."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from micro_framework.config.kinds import (
    LARGEST_PREFETCH,
    Kind,
    choice,
    dotted_path,
    flag,
    free_mapping,
    logging,
    name,
    names,
    seconds,
    ssl,
    text,
    uri,
    whole,
)

__all__ = ["KEYS", "Key", "Section"]


@dataclass(frozen=True, slots=True)
class Section:
    """A value that is a mapping with keys of its own; ``named``: a mapping of free names to such mappings."""

    keys: tuple["Key", ...]
    named: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One known key.

    Args:
        name: The key.
        kind: What its value may be.
        example: A value to show, as written in YAML.
        null: What a null means; by default the same as leaving the key out.
        not_built: Picks the accepted values that ask for something this version does not have.
        instead: What to do as long as it does not.
        secret: Whether a wrong value must not be shown.
        required: Whether the section needs it.
    """

    name: str
    kind: Kind | Section
    example: str = ""
    null: object = None
    not_built: Callable[[Any], bool] = field(default=lambda value: False)
    instead: str = "leave it out"
    secret: bool = False
    required: bool = False


MAX_WORKERS = Key("MAX_WORKERS", whole(1, LARGEST_PREFETCH), "10")
NAMEKO_MAX_WORKERS = Key("max_workers", whole(0, LARGEST_PREFETCH), "10")  # Nameko reads 0 as "the default"
PREFETCH_COUNT = Key("PREFETCH_COUNT", whole(1, LARGEST_PREFETCH), "10")
WORKER_MODE = Key("WORKER_MODE", choice("thread", "greedy_thread", "process", "greedy_process"), "thread")
MAX_TASKS_PER_CHILD = Key("MAX_TASKS_PER_CHILD", whole(1), "1000")
TASK_TIMEOUT = Key("TASK_TIMEOUT", seconds(), "60")

CONTEXT_KEYS = (
    MAX_WORKERS,
    NAMEKO_MAX_WORKERS,
    WORKER_MODE,
    PREFETCH_COUNT,
    MAX_TASKS_PER_CHILD,
    TASK_TIMEOUT,
)

SERIALIZER_KEYS = (
    Key("encoder", dotted_path, "'my_codec.encode'", required=True),
    Key("decoder", dotted_path, "'my_codec.decode'", required=True),
    Key("content_type", text, "application/x-mine", required=True),
    Key("content_encoding", text, "utf-8"),
)

CERTIFICATE_KEYS = (
    Key("certfile", text, "/etc/ssl/server.pem", required=True),
    Key("keyfile", text, "/etc/ssl/server.key"),
    Key("password", text, "of the key file", secret=True),
)

WEBSOCKET_KEYS = (
    Key("ORIGINS", names, "['https://example.com']"),
    Key("TOKEN", text, "a long random text", secret=True),
    Key("MAX_CONNECTIONS", whole(1), "200"),
    Key("MAX_SIZE", whole(1), "1048576"),
    Key("SSL", Section(CERTIFICATE_KEYS), "{certfile: server.pem, keyfile: server.key}"),
)

METRICS_KEYS = (Key("HOST", text, "'0.0.0.0'"), Key("PORT", whole(0, 65535), "8000"))

KEYS = (
    Key("AMQP_URI", uri, "amqp://user:password@localhost:5672/vhost", secret=True),
    Key("AMQP_SSL", ssl, "{ca_certs: /etc/ssl/ca.pem}"),
    Key("LOGIN_METHOD", text, "PLAIN"),
    Key("TRANSPORT_OPTIONS", free_mapping, "{interval_max: 5}"),
    Key("HEARTBEAT", whole(0, LARGEST_PREFETCH), "60"),
    Key("SERVICE_NAME", name, "orders"),
    MAX_WORKERS,
    NAMEKO_MAX_WORKERS,
    WORKER_MODE,
    PREFETCH_COUNT,
    MAX_TASKS_PER_CHILD,
    TASK_TIMEOUT,
    Key("PROCESSES", whole(1), "2"),
    Key("CONTEXTS", Section(CONTEXT_KEYS, named=True), "{slow: {MAX_WORKERS: 2}}"),
    Key("RPC_TIMEOUT", seconds(endless=True), "60", null=math.inf),
    Key("PUBLISH_TIMEOUT", seconds(), "10"),
    Key("START_TIMEOUT", seconds(), "30"),
    Key("SHUTDOWN_TIMEOUT", seconds(zero=True), "30"),
    Key("RETRY_BACKEND", choice("queues", "plugin"), "queues"),
    Key("DEAD_LETTER", flag, "false"),
    Key("MAX_CRASHES", whole(1), "3"),
    Key("JSON_TYPES", choice("tagged", "plain"), "tagged"),
    Key("rpc_exchange", name, "nameko-rpc"),
    Key("serializer", text, "json"),
    Key("ACCEPT", names, "[json]"),
    Key("SERIALIZERS", Section(SERIALIZER_KEYS, named=True), "{mine: {encoder: my_codec.encode, ...}}"),
    Key("parent_calls_tracked", whole(0), "10"),
    Key("AUTO_DELETE_EVENT_EXCHANGES", flag, "true"),
    Key("DECLARE_EVENT_EXCHANGES", flag, "false"),
    Key("WEB_SERVER_ADDRESS", text, "'0.0.0.0:8000'"),
    Key("WEBSOCKET_IP", text, "'0.0.0.0'"),
    Key("WEBSOCKET_PORT", whole(0, 65535), "8765"),
    Key("WEBSOCKET", Section(WEBSOCKET_KEYS), "{MAX_CONNECTIONS: 200}"),
    Key("ENABLE_METRICS", flag, "false"),
    Key("METRICS", Section(METRICS_KEYS), "{PORT: 8000}"),
    Key("LOGGING", logging, "{version: 1, root: {level: INFO}}"),
)
"""Every key of the configuration that means something to the framework."""
