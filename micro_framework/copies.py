"""One of several copies of a service: the side of it that lives in the copy's own process.

The supervisor (`micro_framework.supervisor`) starts `copy_main` in a new interpreter, with one end of a `Channel`. Over
it the copy says ``started``, ``ready``, ``stopping``, ``measured``, ``failed`` and ``alive``, and is told ``stop``,
``timers`` and ``answer`` (which asks for ``alive``). The channel's end is the supervisor's end, and then the copy ends
too.

A copy does not count signals: whether a second one has come is the supervisor's affair. Ctrl-C on a terminal reaches
every process, and some service managers signal all they know of, so any number of signals and the supervisor's ``stop``
are one and the same request.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Concatenate

from micro_framework.channel import Channel, Message
from micro_framework.exceptions import (
    BrokerRefused,
    CallsAbandoned,
    ConfigError,
    CopyFailed,
    DeclarationError,
    MicroFrameworkError,
    SetupFailed,
)
from micro_framework.parentage import end_orphaned, end_with_parent
from micro_framework.signals import STOP_SIGNALS, SignalWatch

__all__ = [
    "UNGUARDED",
    "Copy",
    "CopyMain",
    "copy_main",
    "copy_name",
    "end_unguarded",
    "failure_from",
]

logger = logging.getLogger(__name__)

CopyMain = Callable[Concatenate["Copy", ...], None]
"""What a copy runs: a function of a module; it gets the `Copy` and the arguments that the supervisor was given."""

PATIENCE = 5.0
"""Seconds that a copy waits for room in its channel. The supervisor reads at once, unless it is stopped (SIGSTOP)."""

PREFIX = "copy-"
"""What the names of copies begin with."""

UNGUARDED = 97
"""Exit code of a copy whose main module starts the copies again when it is imported."""

TOLD = (BrokerRefused, CallsAbandoned, ConfigError, CopyFailed, DeclarationError, SetupFailed)
TOLD_AS_THEY_ARE = {error.__name__: error for error in TOLD}
"""Errors that the supervisor raises again as the copy raised them; each is made of its ``args``."""


def copy_name(number: int) -> str:
    """The name of a copy's process, as it appears in logs; they are counted from 1."""
    return f"{PREFIX}{number}"


def end_unguarded() -> None:
    """End this process if it is a copy that is still importing its main module.

    Called where copies are about to be started: in a copy that imports the user's script, it means that the script
    starts its services whoever imports it. The supervisor makes a message of the exit code.
    """
    process = multiprocessing.current_process()
    # The standard library's own mark of a process that is being prepared; by it, it refuses to start others.
    if getattr(process, "_inheriting", False) and process.name.startswith(PREFIX):
        raise SystemExit(UNGUARDED)


class Copy:
    """What the code that runs in a copy knows of the others: nothing but this.

    Args:
        name: Its name, ``copy-1`` and so on.
        channel: To the supervisor.
    """

    def __init__(self, name: str, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self.deciding = threading.Lock()
        self.on_stop: Callable[[], None] | None = None
        self.on_timers: Callable[[], None] = lambda: None
        self.thread = threading.Thread(target=self.listen, name="mf-supervisor", daemon=True)

    # What the service says.

    def serving(self, on_stop: Callable[[], None]) -> None:
        """The service is about to connect; from now on it is stopped by ``on_stop()``, which must return at once.

        Before that nothing runs that a stop could disturb, and it just ends the process.
        """
        with self.deciding:
            self.on_stop = on_stop

    def started(self, timers: int, on_timers: Callable[[], None]) -> None:
        """Everything has started, except for timers.

        Args:
            timers: How many entrypoints wait for this copy to be the one that runs them.
            on_timers: Called if it is, once, on the thread ``mf-supervisor``; must return at once.
        """
        self.on_timers = on_timers
        self.channel.send("started", timers=timers)

    def ready(self, what: str) -> None:
        """Everything is connected and consuming for the first time; ``what`` lists it for the log."""
        self.channel.send("ready", what=what)

    def measured(self, snapshot: Message, health: Message) -> None:
        """What it has counted since its beginning, and how it is."""
        self.channel.send("measured", snapshot=snapshot, health=health)

    def stopping(self) -> None:
        """Nothing new is received any more."""
        self.channel.send("stopping")

    def failed(self, error: MicroFrameworkError) -> None:
        """It ends because of an error that starting it again would not change."""
        kind = type(error).__name__
        if TOLD_AS_THEY_ARE.get(kind) is type(error):
            self.channel.send("failed", kind=kind, args=error.args)
        else:
            self.channel.send("failed", kind=CopyFailed.__name__, args=[str(error)])

    # What the supervisor, or a signal, says.

    def listen(self) -> None:
        """The thread: obeys until the supervisor is gone, and then ends the process at once.

        Its running calls are delivered again, as after any other death; to finish them without a supervisor would leave
        a process behind that nobody can stop.
        """
        while not self.channel.gone:
            for message in self.channel.receive() or ():
                self.obey(message)
        end_orphaned()

    def obey(self, message: Message) -> None:
        """Do what the supervisor says."""
        match message["name"]:
            case "stop":
                self.asked_to_stop()
            case "timers":
                self.on_timers()
            case "answer":
                self.channel.send("alive")

    def asked_to_stop(self) -> None:
        """Stop, however often this is asked. Thread safe."""
        with self.deciding:
            on_stop = self.on_stop
            if on_stop is None:
                os._exit(0)
        on_stop()


def failure_from(message: Message) -> MicroFrameworkError:
    """The error that a copy told of."""
    return TOLD_AS_THEY_ARE[message["kind"]](*message["args"])


def copy_main(name: str, parent: int, stream: socket.socket, main: CopyMain, arguments: tuple[Any, ...]) -> None:
    """The main function of a copy's process.

    Args:
        name: The copy's name.
        parent: The supervisor's process id.
        stream: Its end of the channel.
        main: What to run.
        arguments: What to give it, besides the `Copy`.

    Raises:
        SystemExit: With 1 if it failed; what failed has been told or logged.
    """
    end_with_parent(parent)
    stream.set_inheritable(False)
    copy = Copy(name, Channel(stream, PATIENCE))
    # Watched until the process ends: a late signal, which the supervisor's stop has overtaken, must not kill it.
    SignalWatch(copy.asked_to_stop, lambda number: None).__enter__()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    copy.thread.start()
    try:
        main(copy, *arguments)
    except MicroFrameworkError as error:
        copy.failed(error)
        raise SystemExit(1) from None
    except Exception:
        logger.critical("%s fails with an error that nobody expected", name, exc_info=True)
        raise SystemExit(1) from None
