"""Asking a RabbitMQ node by `erl_call`, Erlang's own small client, or at a socket: in milliseconds.

`rabbitmqctl` needs 0.4 s and the management plugin a longer start; `erl_call` ships with Erlang and needs
neither. Answers are encoded as JSON by the node's own `rabbit_json` and travel in base64, because `erl_call`
abbreviates binaries when it prints them.

Starting `erl_call` is most of what such a question takes, so a node that is ours is asked otherwise: it is told once
to answer at a Unix socket in a folder which is its owner's alone (`answer_at`).
"""

import base64
import glob
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from micro_framework.testing.broker_state import (
    BindingState,
    BrokerStateError,
    ConnectionState,
    ExchangeState,
    QueueState,
    VHost,
)

__all__ = ["ErlangAdmin", "clean_environment", "find_erlang_tool", "find_server_home", "text_in"]

CALL_SECONDS = 20
VALUE_FOLLOWS = b"\x01"

# Of a queue that is just going the node knows no figures: they are empty atoms.
QUEUES = """
Count = fun(What, Q) -> case proplists:get_value(What, Q) of N when is_integer(N) -> N; _ -> 0 end end,
[#{name => element(4, proplists:get_value(name, Q)), durable => proplists:get_value(durable, Q),
   exclusive => proplists:get_value(exclusive, Q), auto_delete => proplists:get_value(auto_delete, Q),
   arguments => rabbit_misc:amqp_table(proplists:get_value(arguments, Q)),
   ready => Count(messages_ready, Q),
   unacknowledged => Count(messages_unacknowledged, Q),
   consumers => Count(consumers, Q)}
 || Q <- rabbit_amqqueue:info_all(%(vhost)s, [name, durable, exclusive, auto_delete, arguments,
                                              messages_ready, messages_unacknowledged, consumers])]
"""
EXCHANGES = """
[#{name => element(4, proplists:get_value(name, X)), type => proplists:get_value(type, X),
   durable => proplists:get_value(durable, X), auto_delete => proplists:get_value(auto_delete, X),
   internal => proplists:get_value(internal, X),
   arguments => rabbit_misc:amqp_table(proplists:get_value(arguments, X))}
 || X <- rabbit_exchange:info_all(%(vhost)s, [name, type, durable, auto_delete, internal, arguments])]
"""
BINDINGS = """
[#{source => proplists:get_value(source_name, B), destination => proplists:get_value(destination_name, B),
   kind => proplists:get_value(destination_kind, B), routing_key => proplists:get_value(routing_key, B),
   arguments => rabbit_misc:amqp_table(proplists:get_value(arguments, B))}
 || B <- rabbit_binding:info_all(%(vhost)s)]
"""
# The client's name is read with a default, since a client need not give itself one. A connection that is just
# being opened has no virtual host yet and is left out.
CONNECTIONS = """
[#{name => proplists:get_value(name, C), vhost => proplists:get_value(vhost, C),
   user => proplists:get_value(user, C), state => proplists:get_value(state, C),
   channels => proplists:get_value(channels, C),
   client_name => case proplists:lookup_all(client_properties, C) of
                      [{_, Given}] -> maps:get(<<"connection_name">>, rabbit_misc:amqp_table(Given), <<>>);
                      _ -> <<>>
                  end}
 || C <- rabbit_networking:connection_info_all([name, vhost, user, state, channels, client_properties]),
    is_binary(proplists:get_value(vhost, C))]
"""
CLOSE_CONNECTION = """
[rabbit_networking:close_connection(proplists:get_value(pid, C), %(reason)s)
 || C <- rabbit_networking:connection_info_all([pid, name]), proplists:get_value(name, C) =:= %(name)s],
[]
"""
ADD_VHOST = """
ok = rabbit_vhost:add(%(vhost)s, <<"test">>),
All = <<".*">>,
ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, %(vhost)s, All, All, All, <<"test">>),
[]
"""
DELETE_QUEUE = """
case rabbit_amqqueue:lookup(rabbit_misc:r(%(vhost)s, queue, %(name)s)) of
    {ok, Q} -> {ok, _} = rabbit_amqqueue:delete(Q, false, false, <<"test">>);
    {error, not_found} -> not_there
end,
[]
"""
# The first call returns once the decisions that were cast before it have been logged, the second once the log's buffer
# has been written. A broker that keeps its metadata in Khepri runs no Mnesia and needs neither. The names of
# quorum queues are in a table beside.
PERSIST_DECLARATIONS = """
case whereis(mnesia_recover) of
    undefined -> ok;
    _ -> mnesia_recover:sync(), ok = mnesia:sync_log()
end,
[dets:sync(Table) || Table <- dets:all()],
[]
"""
ADD_TYPED_VHOST = """
ok = rabbit_vhost:put_vhost(%(vhost)s, <<>>, [], %(type)s, undefined, <<"test">>),
All = <<".*">>,
ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, %(vhost)s, All, All, All, <<"test">>),
[]
"""
# A queue that dead-letters at least once must not be deleted before its worker has begun: RabbitMQ 3.10.8 then loses
# the supervisor of all of them, and no such queue works any more on that node. So each worker is asked for an answer,
# unless it has ended meanwhile.
DELETE_VHOST = """
AtLeastOnce = [Q || Q <- rabbit_amqqueue:list(),
                    lists:keymember(<<"x-dead-letter-strategy">>, 1, amqqueue:get_arguments(Q))],
Workers = fun() -> [P || {_, P, _, _} <- supervisor:which_children(rabbit_fifo_dlx_sup), is_pid(P)] end,
Wait = fun Wait(0) -> gave_up;
           Wait(Left) -> case length(Workers()) >= length(AtLeastOnce) of
                             true -> [catch sys:get_state(P) || P <- Workers()];
                             false -> timer:sleep(20), Wait(Left - 1)
                         end
       end,
AtLeastOnce =:= [] orelse Wait(250),
ok = rabbit_vhost:delete(%(vhost)s, <<"test">>),
[]
"""
# Each connection brings one question, prefixed with its length in four bytes, and takes one answer, prefixed likewise.
# The first byte of an answer tells whether it is the value as JSON or why there is none. The process that listens
# belongs to nobody, so that it lives as long as the node.
ANSWER = """
Answer = fun(Code) ->
             {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Code)),
             {ok, Parsed} = erl_parse:parse_exprs(Tokens),
             {value, Value, _} = erl_eval:exprs(Parsed, erl_eval:new_bindings()),
             [1, rabbit_json:encode(Value)]
         end,
Talk = fun(Client) ->
           receive yours -> ok end,
           case gen_tcp:recv(Client, 0) of
               {ok, Code} -> gen_tcp:send(Client, try Answer(Code) catch Kind:Why:Where ->
                   [0, unicode:characters_to_binary(io_lib:format("~0tp", [{Kind, Why, Where}]))]
               end);
               {error, _} -> nobody_asks
           end,
           gen_tcp:close(Client)
       end,
Serve = fun Serve(Listener) ->
            {ok, Client} = gen_tcp:accept(Listener),
            Talker = spawn(fun() -> Talk(Client) end),
            gen_tcp:controlling_process(Client, Talker),
            Talker ! yours,
            Serve(Listener)
        end,
Asked = self(),
spawn(fun() ->
          Path = binary_to_list(%(path)s),
          file:delete(Path),
          Listening = gen_tcp:listen(0, [local, {ifaddr, {local, Path}}, binary, {packet, 4}, {active, false},
                                         {backlog, 1024}]),
          Asked ! {listening, element(1, Listening)},
          {ok, Listener} = Listening,
          Serve(Listener)
      end),
receive {listening, ok} -> []; {listening, error} -> exit(cannot_listen) end
"""


def find_server_home() -> Path:
    """The installed RabbitMQ server's folder, the one with `sbin` and `plugins` in it.

    `MF_RABBITMQ_HOME` wins; then Debian's place; then the folder around a `rabbitmq-server` on the PATH.

    Raises:
        BrokerStateError: None is installed; the message says what to install.
    """
    given = os.environ.get("MF_RABBITMQ_HOME")
    if given:
        return Path(given)
    packaged = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    if packaged:
        return Path(packaged[-1])
    script = shutil.which("rabbitmq-server")
    if script and (Path(script).resolve().parent.parent / "plugins").is_dir():
        return Path(script).resolve().parent.parent
    raise BrokerStateError(
        "rabbitmq-server is not installed: install it (Debian: apt-get install rabbitmq-server), "
        "or name its folder in MF_RABBITMQ_HOME"
    )


@cache
def find_erlang_tool(name: str) -> str:
    """The path of a program that comes with Erlang (`erl_call`, `epmd`), also where it is not on the PATH.

    Raises:
        BrokerStateError: Erlang, or that part of it, is not installed.
    """
    on_path = shutil.which(name)
    if on_path:
        return on_path
    erl = shutil.which("erl")
    root = Path(erl).resolve().parent.parent if erl else Path("/usr/lib/erlang")
    found = sorted(glob.glob(f"{root}/**/bin/{name}", recursive=True))
    if not found:
        raise BrokerStateError(f"Erlang's {name} is not installed (Debian: apt-get install erlang-base)")
    return found[-1]


def clean_environment(**values: str) -> dict[str, str]:
    """This process's environment without anything that steers RabbitMQ or Erlang, plus `values`."""
    steering = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(steering)}
    return kept | {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"} | values


def erlang_binary(text: str) -> str:
    """A text as an Erlang binary of bytes, so that no quoting is needed."""
    return "<<" + ",".join(str(byte) for byte in text.encode()) + ">>"


def text_in(answer: str) -> bytes | None:
    """The text in an answer that `erl_call` printed, None if there is none.

    One of more than 65,535 characters travels, and is printed, as a list of their numbers.
    """
    if quoted := re.fullmatch(r'\{ok, "([^"]*)"\}', answer):
        return quoted[1].encode()
    if listed := re.fullmatch(r"\{ok, \[([\d, ]+)\]\}", answer):
        return bytes(map(int, listed[1].split(",")))
    return None


def connection_to(path: str, timeout: float) -> socket.socket | None:
    """A connection to the socket a node answers at, None if it does not listen there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def ask(connection: socket.socket, code: str, timeout: float) -> bytes:
    """Send a question and return the answer, or raise `BrokerStateError`; closes the connection."""
    question = code.encode()
    deadline = time.monotonic() + timeout
    try:
        with connection:
            connection.sendall(len(question).to_bytes(4) + question)
            return received(connection, int.from_bytes(received(connection, 4, deadline)), deadline)
    except TimeoutError:
        raise BrokerStateError(f"the broker node did not answer within {timeout:g} s") from None
    except OSError as error:
        raise BrokerStateError(f"the broker node does not answer: {error}") from None


def received(connection: socket.socket, size: int, deadline: float) -> bytes:
    """That many bytes of a connection."""
    data = bytearray()
    while len(data) < size:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("it closed the connection")
        data += piece
    return bytes(data)


def value_in(answer: bytes) -> Any:
    """The value in an answer from a node's socket, or `BrokerStateError` with the node's reason."""
    if answer[:1] != VALUE_FOLLOWS:
        raise BrokerStateError(f"the broker node refused: {answer[1:].decode(errors='replace')[:2000]}")
    return json.loads(answer[1:])


class ErlangAdmin:
    """Questions and orders to one running node (`BrokerAdmin`), from this process or another than its owner.

    Safe to use from several threads: each question is a process, or a connection, of its own.

    Args:
        port: The AMQP port.
        distribution_port: The port Erlang nodes talk to it on.
        cookie: Erlang's shared secret.
        host: Where it listens.
        questions: The path of the Unix socket that it was told to answer at, which is asked when it is there.
    """

    def __init__(
        self, port: int, distribution_port: int, cookie: str, host: str = "127.0.0.1", questions: str | None = None
    ) -> None:
        self.port = port
        self.distribution_port = distribution_port
        self.cookie = cookie
        self.host = host
        self.questions = questions

    @property
    def uri(self) -> str:
        """The AMQP URI of the default virtual host, user and password ``guest``."""
        return self.uri_of("/")

    def uri_of(self, vhost: str) -> str:
        """The AMQP URI of a virtual host, user and password ``guest``."""
        return f"amqp://guest:guest@{self.host}:{self.port}/{vhost}"

    def evaluate(self, expressions: str, timeout: float = CALL_SECONDS, **texts: str) -> Any:
        """Run Erlang expressions on the node and return the last one's value, through JSON.

        Args:
            expressions: Erlang code; `%(name)s` stands for one of `texts`.
            timeout: Seconds until the node counts as not answering.
            texts: Passed in as Erlang binaries.

        Raises:
            BrokerStateError: The node did not answer, or the code failed.
        """
        code = expressions.strip() % {name: erlang_binary(text) for name, text in texts.items()}
        connection = self.questions and connection_to(self.questions, timeout)
        if connection:
            # Not asked again by `erl_call` when that fails: it may have been an order, and carried out.
            return value_in(ask(connection, f"{code}.", timeout))
        as_text = f"binary_to_list(base64:encode(rabbit_json:encode(begin {code} end)))."
        answer = self.call(as_text, timeout)
        encoded = text_in(answer)
        if encoded is None:
            raise BrokerStateError(f"the broker node refused: {answer[:2000]}")
        return json.loads(base64.b64decode(encoded))

    def call(self, code: str, timeout: float = CALL_SECONDS) -> str:
        """Run Erlang code, with its full stop, and return what `erl_call` prints."""
        arguments = [find_erlang_tool("erl_call"), "-address", f"{self.host}:{self.distribution_port}"]
        # A name of its own: the node refuses a second client of the same name while the first is connected.
        arguments += [
            "-h",
            f"mf{secrets.token_hex(6)}",
            "-c",
            self.cookie,
            "-timeout",
            str(max(1, round(timeout))),
            "-e",
        ]
        try:
            done = subprocess.run(
                arguments,
                input=code + "\n",
                env=clean_environment(HOME="/nonexistent"),
                capture_output=True,
                text=True,
                timeout=timeout + 5,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BrokerStateError(f"the broker node did not answer within {timeout:g} s") from None
        if done.returncode:
            raise BrokerStateError(f"the broker node does not answer: {(done.stdout + done.stderr).strip()}")
        return done.stdout.strip()

    def answer_at(self, path: str) -> None:
        """Have the node answer questions at a Unix socket as well, until it ends, and ask there from now on.

        Whoever may write to the socket can have the node do anything: it belongs in a folder of its owner's alone.
        """
        self.evaluate(ANSWER, path=path)
        self.questions = path

    def add_vhost(self, name: str | None = None, default_queue_type: str | None = None) -> str:
        """Create a virtual host that ``guest`` may do anything in (about 10 ms), and return its name.

        Args:
            name: Its name; None: a new one.
            default_queue_type: The type of queues declared without one, ``classic`` or ``quorum``; None: the broker's.
        """
        vhost = name or f"test-{secrets.token_hex(4)}"
        if default_queue_type is None:
            self.evaluate(ADD_VHOST, vhost=vhost)
        else:
            self.evaluate(ADD_TYPED_VHOST, vhost=vhost, type=default_queue_type)
        return vhost

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with everything in it (about 15 ms)."""
        self.evaluate(DELETE_VHOST, vhost=name)

    def vhost(self, name: str | None = None, default_queue_type: str | None = None) -> VHost:
        """A handle on a new virtual host; delete it with `delete_vhost(handle.name)`."""
        return VHost(self, self.add_vhost(name, default_queue_type))

    def vhosts(self) -> Sequence[str]:
        """The names of all virtual hosts, the default one included."""
        names: list[str] = self.evaluate("rabbit_vhost:list_names()")
        return names

    def queues(self, vhost: str) -> Sequence[QueueState]:
        """Every queue of a virtual host."""
        return [QueueState(**row) for row in self.evaluate(QUEUES, vhost=vhost)]

    def exchanges(self, vhost: str) -> Sequence[ExchangeState]:
        """Every exchange of a virtual host that a client declared."""
        rows = [ExchangeState(**row) for row in self.evaluate(EXCHANGES, vhost=vhost)]
        return [row for row in rows if row.name and not row.name.startswith("amq.")]

    def bindings(self, vhost: str) -> Sequence[BindingState]:
        """Every binding of a virtual host that a client made."""
        rows = [BindingState(**row) for row in self.evaluate(BINDINGS, vhost=vhost)]
        return [row for row in rows if row.source]

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue with what it holds, whoever consumes it; no such queue: nothing happens."""
        self.evaluate(DELETE_QUEUE, vhost=vhost, name=name)

    def connections(self) -> Sequence[ConnectionState]:
        """Every client connection of the node."""
        return [ConnectionState(**row) for row in self.evaluate(CONNECTIONS)]

    def close_connection(self, name: str, reason: str = "closed by a test") -> None:
        """Close a connection from the broker's side; the client sees 320 CONNECTION_FORCED."""
        self.evaluate(CLOSE_CONNECTION, name=name, reason=reason)

    def set_memory_alarm(self, raised: bool) -> None:
        """Raise or clear the memory alarm, under which the broker blocks every connection that publishes."""
        fraction = "0.0" if raised else "0.4"
        # The second question is answered once every connection has been told.
        self.evaluate(
            f"ok = vm_memory_monitor:set_vm_memory_high_watermark({fraction}), _ = rabbit_alarm:get_alarms(), []"
        )

    def set_disk_alarm(self, raised: bool) -> None:
        """Raise or clear the disk alarm, with the same consequence: what the node wants free is more than there is."""
        limit = 10**18 if raised else 1  # bytes
        self.evaluate(f"ok = rabbit_disk_monitor:set_disk_free_limit({limit}), _ = rabbit_alarm:get_alarms(), []")

    def persist_declarations(self) -> None:
        """Have everything that was declared so far survive a `RabbitMQNode.kill` (about 10 ms).

        RabbitMQ answers a declaration when Mnesia has logged it; that it was decided is logged behind that answer, and
        may wait in a buffer for 2 s. Without that second entry a node that was killed takes the declaration back when
        it starts: a durable queue is gone, with every confirmed message in it (seen on 3.10.8).
        """
        self.evaluate(PERSIST_DECLARATIONS)

    def settings(self) -> Mapping[str, Any]:
        """What another process needs to make an `ErlangAdmin` of the same node."""
        return {
            "port": self.port,
            "distribution_port": self.distribution_port,
            "cookie": self.cookie,
            "host": self.host,
            "questions": self.questions,
        }
