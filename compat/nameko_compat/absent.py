"""What Nameko has and this package does not, name by name, with the reason; asking for one is refused with it.

`docs/nameko-compat.md` is made of this table, and a test holds it against the modules of real Nameko: every public name
of 2.14.1 and 3.0.0rc11 is either there or here.
"""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["ABSENT", "ABSENT_MODULES", "absent_module", "refusing"]

INTERNAL = "a part of Nameko's inside, which is built differently here"
OWN_CLI = "a part of Nameko's command line; use the command micro-framework"
NOT_YET = "not built yet"
NOT_CALLED = "messages do not go through it here; a subclass that overrides it is refused"

ABSENT: Mapping[str, Mapping[str, str]] = {
    "amqp.publish": {
        "Publisher": f"{INTERNAL}; use nameko.messaging.Publisher, or micro_framework.standalone",
    },
    "containers": {"is_method": INTERNAL},
    "messaging": {
        "Consumer.amqp_uri": INTERNAL,
        "Consumer.consumer_cls": INTERNAL,
        "Consumer.handle_message": NOT_CALLED,
        "Consumer.handle_message_processed": NOT_CALLED,
        "Consumer.handle_result": NOT_CALLED,
        "Consumer.queue_consumer": INTERNAL,
        "Publisher.amqp_uri": INTERNAL,
        "Publisher.publisher_cls": INTERNAL,
        "Publisher.serializer": INTERNAL,
        "QueueConsumer": INTERNAL,
        "QueueConsumerStopped": INTERNAL,
    },
    "rpc": {
        "ClusterRpc.publisher_cls": INTERNAL,
        "ClusterRpc.reply_listener": INTERNAL,
        "MethodProxy": f"{INTERNAL}; what RpcProxy gives is a Client",
        "RESTRICTED_PUBLISHER_OPTIONS": INTERNAL,
        "ReplyListener": INTERNAL,
        "Responder": INTERNAL,
        "Rpc.handle_message": NOT_CALLED,
        "Rpc.handle_result": NOT_CALLED,
        "Rpc.rpc_consumer": INTERNAL,
        "RpcCall.send_request": INTERNAL,
        "RpcProxy.rpc_reply_listener": INTERNAL,
        "RpcReply.resp_body": INTERNAL,
        "RpcConsumer": INTERNAL,
        "ServiceProxy": f"{INTERNAL}; what RpcProxy gives is a Client",
    },
    "standalone.rpc": {
        "ClusterRpcClient.publisher_cls": INTERNAL,
        "ClusterProxy": f"{INTERNAL}; what the clients give is a nameko.rpc.Client",
        "ConsumeEvent": INTERNAL,
        "PollingQueueConsumer": INTERNAL,
        "ReplyListener": INTERNAL,
        "SingleThreadedReplyListener": f"{INTERNAL}; leave out reply_listener_cls, one client serves all threads",
        "StandaloneProxyBase": INTERNAL,
    },
    "testing.pytest": {
        "fast_teardown": f"{INTERNAL}; nothing slows the end of a test down",
        "parse_config_option": INTERNAL,
        "pytest_configure": INTERNAL,
        "pytest_sessionstart": INTERNAL,
        "rabbit_manager": NOT_YET,
        "rabbit_ssl_config": NOT_YET,
        "rabbit_ssl_options": NOT_YET,
        "rabbit_ssl_uri": NOT_YET,
        "vhost_pipeline": INTERNAL,
    },
    "testing.utils": {
        "ResourcePipeline": INTERNAL,
        "get_rabbit_connections": NOT_YET,
        "reset_rabbit_connections": NOT_YET,
        "wait_for_worker_idle": "deprecated by Nameko 2; use entrypoint_waiter",
    },
    "timer": {"Timer.handle_result": NOT_CALLED, "Timer.handle_timer_tick": NOT_CALLED},
    "web.server": {
        "HttpOnlyProtocol": f"{INTERNAL}, on werkzeug's server",
        "STATE_IDLE": INTERNAL,
        "WebServer.process_request": INTERNAL,
        "WebServer.run": INTERNAL,
    },
    "web.websocket": {"IDENTIFY_WEBSOCKET_RULES": INTERNAL},
    "cli": dict.fromkeys(("cli", "run", "shell", "show_config", "test"), OWN_CLI),
}
"""Names that are not there, by module below ``nameko``."""

ABSENT_MODULES: Mapping[str, str] = {
    "amqp.consume": INTERNAL,
    "cli.actions": OWN_CLI,
    "cli.backdoor": OWN_CLI,
    "cli.click_arguments": OWN_CLI,
    "cli.click_options": OWN_CLI,
    "cli.click_paramtypes": OWN_CLI,
    "cli.code": OWN_CLI,
    "cli.commands": OWN_CLI,
    "cli.main": OWN_CLI,
    "cli.run": OWN_CLI,
    "cli.shell": OWN_CLI,
    "cli.show_config": OWN_CLI,
    "cli.utils": OWN_CLI,
    "testing.rabbit": f"{NOT_YET}; micro_framework.testing has a client of RabbitMQ's management API",
    "utils.concurrency": f"{INTERNAL}, with threads",
}
"""Modules below ``nameko`` that are not there, with all that is below them."""


def absent_module(name: str) -> str | None:
    """Why a module below ``nameko`` is not there; None if it is not known to be missing."""
    parts = name.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((ABSENT_MODULES[each] for each in above if each in ABSENT_MODULES), None)


def refusing(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__``: refuses what is known to be missing from it.

    Args:
        module: Its ``__name__``.
    """
    below = module.partition(".")[2]
    reasons = ABSENT.get(below, {})

    def missing(name: str) -> Any:
        if name in reasons:
            raise ImportError(f"nameko.{below}.{name} is not in nameko_compat: {reasons[name]}", name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing
