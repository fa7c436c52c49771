"""``micro-framework shell``: a Python shell that can call services and dispatch events."""

import code
import os
import sys
from typing import Any

import click

from micro_framework.cli.errors import FailedError
from micro_framework.cli.options import configured, with_broker, with_config
from micro_framework.exceptions import MicroFrameworkError

__all__ = ["ShellTools", "shell"]

BANNER = """micro_framework shell, broker {broker}
  n.rpc.SERVICE.METHOD(...)              call a service; n.rpc["svc-name"] reaches any name
  n.emit(SERVICE, EVENT, PAYLOAD)        dispatch an event
  n.config                               the configuration"""


@click.command()
@click.option("--interface", type=click.Choice(["ipython", "plain"]), help="Which shell; IPython if it is installed.")
@with_config
def shell(interface: str | None, config_path: str | None, defines: tuple[str, ...], broker: str | None) -> None:
    """Open a Python shell with 'n': n.rpc, n.emit, n.config. Without a terminal it runs what stdin holds."""
    try:
        tools = ShellTools(with_broker(configured(config_path, defines, broker)))
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error
    try:
        run_shell(tools, interface)
    finally:
        tools.disconnect()


class ShellTools:
    """What ``n`` is in the shell. Connects when it is first used.

    Args:
        config: The configuration.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        from micro_framework.standalone import RPCClient

        self.config = config
        self.rpc = RPCClient(config)
        self.producers: dict[str, Any] = {}

    def emit(self, service: str, event: str, payload: Any = None) -> None:
        """Dispatch an event as a service."""
        from micro_framework.standalone import EventProducer

        if service not in self.producers:
            self.producers[service] = EventProducer(service, self.config)
        self.producers[service](event, payload)

    dispatch_event = emit
    """Nameko's name for it."""

    def disconnect(self) -> None:
        """Close the connections."""
        for client in (self.rpc, *self.producers.values()):
            client.stop()


def run_shell(tools: ShellTools, interface: str | None) -> None:
    """Run the shell until its user leaves it."""
    from micro_framework.config.uris import redact_uri

    banner = BANNER.format(broker=redact_uri(str(tools.config["AMQP_URI"])))
    if not sys.stdin.isatty():
        run_script(tools, sys.stdin.read())
        return
    if interface != "plain" and (start := ipython(required=interface == "ipython")) is not None:
        start(banner, {"n": tools})
        return
    run_startup_file(namespace := {"n": tools})
    code.interact(banner, local=namespace, exitmsg="")


def ipython(*, required: bool) -> Any:
    """IPython's way to embed itself, None where it is not installed."""
    try:
        from IPython.terminal.embed import InteractiveShellEmbed
    except ImportError:
        if required:
            raise FailedError("IPython is not installed; pip install ipython, or leave out --interface") from None
        return None

    return lambda banner, namespace: InteractiveShellEmbed(banner1=banner, user_ns=namespace)()


def run_script(tools: ShellTools, source: str) -> None:
    """Run a script from stdin; the first error ends it with its traceback, as in Python itself."""
    exec(compile(source, "<stdin>", "exec"), {"n": tools, "__name__": "__main__"})  # noqa: S102 - the user's own script


def run_startup_file(namespace: dict[str, Any]) -> None:
    """Run the file that PYTHONSTARTUP names, as Python's own shell does."""
    path = os.environ.get("PYTHONSTARTUP")
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), namespace)  # noqa: S102 - the user's own file
