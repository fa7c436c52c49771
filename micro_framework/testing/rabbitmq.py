"""A throw-away RabbitMQ node: private folders, free loopback ports, its own epmd, gone without a trace.

::

    with RabbitMQNode() as node:
        vhost = node.vhost()
        Runner([Orders], {"AMQP_URI": vhost.uri}).start()

What makes it private and quick, as seen with RabbitMQ 3.10 to 4.3 on Debian:

- The server's own `sbin/rabbitmq-server` runs as the calling user; Debian's wrapper would change user.
- `NOTIFY_SOCKET` makes that script `exec` the Erlang machine, so the child's pid is the broker (a SIGKILL or
  SIGSTOP hits it), and makes the broker say ``READY=1`` the moment it is up. Where a build does not say so,
  the AMQP handshake is tried.
- epmd runs in the foreground as a child on a port of its own; else the node leaves a daemon on 0.0.0.0:4369.
- `RABBITMQ_PLUGINS_DIR` is a folder of three links: scanning all plugins costs a quarter of the start.
- RabbitMQ 3 loads every module of all that it depends on, one after the other. Here all are loaded at once before:
  a start takes a quarter less CPU. RabbitMQ 4 loads what it needs.
- A watchdog process waits on a pipe from its owner. When that breaks, for whatever reason, it kills the node
  and removes the folder, so that a killed test run leaves nothing behind, not even a paused node.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from micro_framework.testing.broker_state import BrokerStateError
from micro_framework.testing.erlang import ErlangAdmin, clean_environment, find_erlang_tool, find_server_home

__all__ = ["RabbitMQNode", "Watchdog", "free_port"]

LOOPBACK = "127.0.0.1"
LONGEST_SOCKET_PATH = 100
"""Bytes of a Unix socket's path: Linux takes 107, others a few less."""
START_SECONDS = 60.0
STOP_SECONDS = 20.0
START_ATTEMPTS = 3
PORT_ATTEMPTS = 100
FIRST_PORT = 10_000
ANY_PORT = range(1)
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
NEEDED_PLUGINS = ("rabbit", "rabbit_common", "rabbitmq_prelaunch")
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
# Every module of RabbitMQ and of what it depends on, as their `.app` files tell. The start goes on without, too.
PRELOAD = """
catch begin
    Read = fun(App) ->
               File = code:where_is_file(atom_to_list(App) ++ [$., $a, $p, $p]),
               {ok, [{application, _, Told}]} = file:consult(File),
               Told
           end,
    Reach = fun Reach(App, Seen) when is_map_key(App, Seen) -> Seen;
                Reach(App, Seen) ->
                    Told = Read(App),
                    With = Seen#{App => proplists:get_value(modules, Told)},
                    lists:foldl(Reach, With, proplists:get_value(applications, Told))
            end,
    code:ensure_modules_loaded(lists:append(maps:values(Reach(rabbit, #{}))))
end
"""
WATCHDOG = """
read -r _
for pidfile in "$1"/*.pid; do
    [ -e "$pidfile" ] && kill -s KILL -- "-$(cat "$pidfile")"
done
rm -rf -- "$1"
"""


def free_port() -> int:
    """A TCP port that is free on the loopback address now. Another process may take it first: retry.

    It is none that the system gives to outgoing connections, where that is known: a client that tries to reach a
    server which is down may be given the very port that the server is to have again.
    """
    for _ in range(PORT_ATTEMPTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, secrets.choice(listening_ports())))
            return int(probe.getsockname()[1])
    raise BrokerStateError(f"none of {PORT_ATTEMPTS} ports on {LOOPBACK} was free")


def listening_ports() -> range:
    """Ports for servers; 0 alone, which is any, where the system does not say which ones it gives to clients."""
    try:
        first = int(OUTGOING_PORTS.read_text().split()[0])
    except (OSError, ValueError, LookupError):
        return ANY_PORT
    return range(FIRST_PORT, first) if first > 2 * FIRST_PORT else ANY_PORT


class Watchdog:
    """Once this process is gone, kills the process groups with pid files in a folder, and removes the folder.

    Args:
        folder: Holds `*.pid` files, each with the id of a process group.
    """

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            ["sh", "-c", WATCHDOG, "watchdog", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal must not take the watchdog first
            cwd="/",
        )

    def close(self) -> None:
        """Let it do its work now, and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class RabbitMQNode(ErlangAdmin):
    """A private RabbitMQ node, started on entering the `with` block and gone after it.

    Starting takes about 3 s, a virtual host for each test about 10 ms: share a node, not a virtual host.
    One thread owns it (start, stop, kill ...); questions may be asked from any.

    Args:
        extra_config: Lines for `rabbitmq.conf`, for example a TLS listener.
        plugins: Plugins to enable beside the broker itself; then all installed ones are scanned.
        scheduler_threads: Threads of the Erlang machine; None leaves it to Erlang.
        beside: A running node whose cluster this one joins when it starts for the first time, and belongs to from then
            on. It uses that node's epmd, so close it first.
        files_in: Where the folder of all its files is made; None: where temporary files belong. In memory
            (`/dev/shm`), where nothing is waited for that is written, a virtual host costs half of the time.
    """

    def __init__(
        self,
        extra_config: Sequence[str] = (),
        plugins: Sequence[str] = (),
        scheduler_threads: int | None = None,
        beside: "RabbitMQNode | None" = None,
        files_in: str | None = None,
    ) -> None:
        cookie = secrets.token_hex(8) if beside is None else beside.cookie
        super().__init__(free_port(), free_port(), cookie, LOOPBACK)
        self.home = find_server_home()
        self.extra_config = tuple(extra_config)
        self.beside = beside
        self.plugins = tuple(plugins)
        self.scheduler_threads = scheduler_threads
        self.name = f"mf-{secrets.token_hex(3)}@localhost"
        self.epmd_port: int = free_port() if beside is None else beside.epmd_port
        self.process: subprocess.Popen[bytes] | None = None
        self.epmd: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="mf-rabbitmq-", dir=files_in))
        self.watchdog = Watchdog(self.folder)
        self._lay_out_folder()

    # -- lifecycle

    def start(self, timeout: float = START_SECONDS) -> Self:
        """Start the broker and return once it accepts connections.

        What was durable is still there after `stop` or `kill`, and the ports stay the same.

        Args:
            timeout: Seconds for one attempt; a port somebody else took meanwhile is retried on another.

        Raises:
            BrokerStateError: It did not come up; the message ends with its own output.
        """
        if self.is_running():
            return self
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_once(timeout)
                break
            except BrokerStateError as error:
                self.kill()
                if "eaddrinuse" not in str(error) or attempt == START_ATTEMPTS:
                    raise
                self._take_other_ports()
        return self

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Shut the broker down in order (about 1 s): it closes its connections and keeps what is durable."""
        if self.process is None:
            return
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget_process()

    def kill(self) -> None:
        """SIGKILL the broker: connections break without a word, as in a crash."""
        if self.process is None:
            return
        kill_group(self.process)
        self._forget_process()

    def restart(self, timeout: float = START_SECONDS) -> None:
        """`stop`, then `start` on the same ports with the same contents."""
        self.stop()
        self.start(timeout)

    def pause(self) -> None:
        """SIGSTOP the broker: connections stay open and nobody answers. Returns once it has stopped."""
        self._signal(signal.SIGSTOP)
        # The signal is only noted at first; the broker's threads run on for a moment and may answer meanwhile.
        deadline = time.monotonic() + STOP_SECONDS
        while not self._has_stopped() and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """Let a paused broker run on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The broker does not answer inside the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """The broker blocks publishing connections inside the block (`connection.blocked`)."""
        self.set_memory_alarm(True)
        try:
            yield
        finally:
            self.set_memory_alarm(False)

    @contextlib.contextmanager
    def disk_alarm(self) -> Iterator[None]:
        """The same, for the disk is full."""
        self.set_disk_alarm(True)
        try:
            yield
        finally:
            self.set_disk_alarm(False)

    def close(self) -> None:
        """Kill the broker and remove everything. It cannot be started again."""
        self.kill()
        if self.epmd is not None:
            kill_group(self.epmd)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.watchdog.close()

    def is_running(self) -> bool:
        """Whether the broker's process lives, paused or not."""
        return self.process is not None and self.process.poll() is None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how it is laid out and started

    def _lay_out_folder(self) -> None:
        for name in ("mnesia", "log", "home", "plugins"):
            (self.folder / name).mkdir()
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
        (self.folder / "env.conf").touch()
        self._write_config()
        for plugin in NEEDED_PLUGINS:
            for path in (self.home / "plugins").glob(f"{plugin}-[0-9]*"):
                (self.folder / "plugins" / path.name).symlink_to(path)

    def _write_config(self) -> None:
        lines = [
            f"listeners.tcp.1 = {self.host}:{self.port}",
            "loopback_users = none",
            "log.console = false",
            "log.file.level = warning",
            *self._cluster_config(),
            *self.extra_config,
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _cluster_config(self) -> list[str]:
        if self.beside is None:
            return []
        names = (self.beside.name, self.name)
        nodes = [f"cluster_formation.classic_config.nodes.{number} = {name}" for number, name in enumerate(names, 1)]
        return ["cluster_formation.peer_discovery_backend = classic_config", *nodes, *self._no_startup_delay()]

    def _no_startup_delay(self) -> list[str]:
        """RabbitMQ 3 waits for a random time before it joins a cluster; RabbitMQ 4.3 refuses the setting."""
        if not self._is_rabbitmq_3():
            return []
        return [f"cluster_formation.randomized_startup_delay_range.{end} = 0" for end in ("min", "max")]

    def _is_rabbitmq_3(self) -> bool:
        return any((self.home / "plugins").glob("rabbit-3.*"))

    def _first_of_all(self) -> str:
        """Arguments of the Erlang machine before all others, among them the order to start the broker."""
        return f"-eval '{' '.join(PRELOAD.split())}'" if self._is_rabbitmq_3() else ""

    def _take_other_ports(self) -> None:
        self.port, self.distribution_port = free_port(), free_port()
        self._write_config()

    def _environment(self, notify_path: Path) -> dict[str, str]:
        folder, all_plugins = self.folder, self.home / "plugins"
        erlang_arguments = "-kernel inet_dist_use_interface {127,0,0,1}"
        if self.scheduler_threads:
            erlang_arguments += f" +S {self.scheduler_threads}:{self.scheduler_threads}"
        return clean_environment(
            HOME=str(folder / "home"),
            RABBITMQ_NODENAME=self.name,
            RABBITMQ_NODE_IP_ADDRESS=self.host,
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(self.distribution_port),
            RABBITMQ_MNESIA_BASE=str(folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "enabled_plugins"),
            RABBITMQ_PLUGINS_DIR=str(all_plugins if self.plugins else folder / "plugins"),
            RABBITMQ_CONFIG_FILE=str(folder / "rabbitmq"),
            RABBITMQ_ADVANCED_CONFIG_FILE=str(folder / "advanced.config"),
            RABBITMQ_CONF_ENV_FILE=str(folder / "env.conf"),
            RABBITMQ_PID_FILE=str(folder / "server-pid"),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=erlang_arguments,
            ERL_AFLAGS=self._first_of_all(),
            ERL_EPMD_PORT=str(self.epmd_port),
            ERL_EPMD_ADDRESS=self.host,
            ERL_CRASH_DUMP="/dev/null",
            NOTIFY_SOCKET=str(notify_path),
        )

    def _start_once(self, timeout: float) -> None:
        self._start_epmd()
        notify_path = self.folder / "notify.sock"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(notify_path))
            notify.settimeout(0.2)
            self.process = self._spawn(
                [str(self.home / "sbin" / "rabbitmq-server")], "server", self._environment(notify_path)
            )
            self._wait_until_ready(self.process, notify, timeout)
        questions = str(self.folder / "ask.sock")
        if len(questions.encode()) <= LONGEST_SOCKET_PATH:
            self.answer_at(questions)

    def _start_epmd(self) -> None:
        if self.beside is not None or (self.epmd is not None and self.epmd.poll() is None):
            return
        arguments = [find_erlang_tool("epmd"), "-port", str(self.epmd_port), "-address", self.host]
        self.epmd = self._spawn(arguments, "epmd", clean_environment())
        deadline = time.monotonic() + 5
        while not accepts_connections(self.host, self.epmd_port):
            if self.epmd.poll() is not None or time.monotonic() > deadline:
                raise BrokerStateError(f"epmd did not start (eaddrinuse?):\n{self._output('epmd')}")
            time.sleep(0.01)

    def _spawn(self, arguments: list[str], name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.folder,
            )
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes], notify: socket.socket, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not (self._said_ready(notify) or self._answers()):
            if process.poll() is not None:
                raise BrokerStateError(f"rabbitmq-server ended at start:\n{self._output('server')}")
            if time.monotonic() > deadline:
                raise BrokerStateError(f"rabbitmq-server was not ready in {timeout:g} s:\n{self._output('server')}")

    @staticmethod
    def _said_ready(notify: socket.socket) -> bool:
        try:
            return b"READY=1" in notify.recv(4096)
        except TimeoutError:
            return False

    def _answers(self) -> bool:
        # Both: another broker may have taken the port, and the node runs before it listens.
        if not speaks_amqp(self.host, self.port):
            return False
        with contextlib.suppress(BrokerStateError):
            return self.call("rabbit:is_running().", timeout=1) == "{ok, true}"
        return False

    def _output(self, name: str) -> str:
        logs = [*sorted((self.folder / "log").glob("*.log")), self.folder / f"{name}.out"]
        return "\n".join(beginning_and_end(log.read_text(errors="replace")) for log in logs if log.exists())

    def _has_stopped(self) -> bool:
        """Whether the process was stopped since this was last asked, or is not there."""
        if self.process is None or self.process.poll() is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG) is not None

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _forget_process(self) -> None:
        # The watchdog must never kill a later process that got the same id.
        self.process = None
        (self.folder / "server.pid").unlink(missing_ok=True)


def beginning_and_end(text: str, size: int = 1500) -> str:
    """A long text without its middle: the reason stands first, the way it ended last."""
    return text if len(text) <= 2 * size else f"{text[:size]}\n...\n{text[-size:]}"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process started in a session of its own, with its children, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def accepts_connections(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), 0.5).close()
    except OSError:
        return False
    return True


def speaks_amqp(host: str, port: int) -> bool:
    """Whether an AMQP broker answers the protocol header there."""
    try:
        with socket.create_connection((host, port), 0.3) as connection:
            connection.settimeout(1)
            connection.sendall(PROTOCOL_HEADER)
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
