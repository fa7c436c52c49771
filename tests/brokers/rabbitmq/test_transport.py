"""The socket that never blocks: over TCP and over TLS."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from micro_framework.brokers.port import Subscription, Verdict
from micro_framework.brokers.rabbitmq import RabbitMQBroker
from micro_framework.brokers.rabbitmq.transport import READ_SIZE, PlainTransport
from micro_framework.testing.rabbitmq import RabbitMQNode, free_port
from tests.brokers.probes import SECONDS, Diary, Doors, Inbox, message, queue, soon

JOBS = queue("jobs")


@pytest.fixture
def pair() -> Iterator[tuple[PlainTransport, socket.socket]]:
    """A transport and the other end of its socket."""
    transport = PlainTransport("nowhere:1")
    transport.sock, other = socket.socketpair()
    transport._setup_transport()
    yield transport, other
    transport.close()
    other.close()


def test_a_write_never_waits_for_a_peer_that_does_not_read(pair: tuple[PlainTransport, socket.socket]) -> None:
    transport, other = pair
    woken: list[bool] = []
    transport.wake_reader = lambda: woken.append(True)
    began = time.monotonic()
    for number in range(8):
        transport.send(bytes([number]) * 1_000_000)
    assert time.monotonic() - began < SECONDS
    assert transport.unsent
    assert woken == [True]
    received = b""
    while len(received) < 8_000_000:
        received += other.recv(1_000_000)
        transport.push()
    assert received == b"".join(bytes([number]) * 1_000_000 for number in range(8))
    assert not transport.unsent


def test_more_is_read_at_once_as_long_as_much_is_there(pair: tuple[PlainTransport, socket.socket]) -> None:
    transport, other = pair
    other.sendall(bytes(3 * READ_SIZE))
    assert [len(transport.receive()) for _ in range(2)] == [READ_SIZE, 2 * READ_SIZE]
    other.sendall(b"little")
    assert transport.receive() == b"little"
    other.sendall(bytes(READ_SIZE + 1))
    assert len(transport.receive()) == READ_SIZE, "memory for much is asked for only where there is much"


def test_writers_never_mix_their_bytes(pair: tuple[PlainTransport, socket.socket]) -> None:
    transport, other = pair
    size = 300_000

    def write(letter: bytes) -> None:
        for _ in range(10):
            transport.send(letter * size)

    writers = [threading.Thread(target=write, args=(bytes([65 + number]),)) for number in range(4)]
    for writer in writers:
        writer.start()
    received = bytearray()
    while len(received) < 40 * size:
        transport.push()
        received += other.recv(1_000_000)
    for writer in writers:
        writer.join()
    pieces = [bytes(received[at : at + size]) for at in range(0, len(received), size)]
    assert all(len(set(piece)) == 1 for piece in pieces)


def test_a_write_to_a_peer_that_is_gone_is_told_to_the_reader_only(pair: tuple[PlainTransport, socket.socket]) -> None:
    transport, other = pair
    woken: list[bool] = []
    transport.wake_reader = lambda: woken.append(True)
    other.close()
    transport.send(b"x")
    assert isinstance(transport.broken, BrokenPipeError)
    assert woken == [True, True] or woken == [True]


def test_reading_says_nothing_something_or_gone(pair: tuple[PlainTransport, socket.socket]) -> None:
    transport, other = pair
    assert transport.receive() == b""
    other.send(b"abc")
    assert transport.receive() == b"abc"
    other.close()
    with pytest.raises(ConnectionResetError, match="closed the connection"):
        transport.receive()


def test_sending_after_close_does_nothing(pair: tuple[PlainTransport, socket.socket]) -> None:
    transport, _ = pair
    transport.close()
    transport.send(b"x")
    transport.close()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-signed certificate for localhost and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*request, *names, *files], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tls_node(certificate: Path) -> Iterator[tuple[RabbitMQNode, int]]:
    """A node with a TLS listener, and its port."""
    port = free_port()
    lines = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"listeners.ssl.2 = 127.0.0.2:{port}",
        f"ssl_options.cacertfile = {certificate}/cert.pem",
        f"ssl_options.certfile = {certificate}/cert.pem",
        f"ssl_options.keyfile = {certificate}/key.pem",
        "ssl_options.verify = verify_none",
    ]
    with RabbitMQNode(extra_config=lines) as node:
        yield node, port


def tls_uri(tls_node: tuple[RabbitMQNode, int], scheme: str = "amqps") -> str:
    node, port = tls_node
    return f"{scheme}://guest:guest@127.0.0.1:{port}/{node.vhost().name}"


@pytest.fixture
def tls_doors(tls_node: tuple[RabbitMQNode, int], certificate: Path) -> Iterator[Doors]:
    options = {
        "ca_certs": str(certificate / "cert.pem"),
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "localhost",
    }
    doors = Doors(RabbitMQBroker(tls_uri(tls_node), ssl=options, heartbeat=1))
    yield doors
    doors.close()


@pytest.mark.timeout(120)
def test_messages_travel_over_tls(tls_doors: Doors) -> None:
    inbox, _ = tls_doors.consuming(JOBS, prefetch=10)
    tls_doors.send(*(message("jobs", str(number)) for number in range(200)))
    assert inbox.bodies(200) == [str(number) for number in range(200)]


@pytest.mark.timeout(120)
def test_large_bodies_travel_over_tls_in_both_directions_at_once(tls_doors: Doors) -> None:
    """OpenSSL allows one thread at a time on a connection; here three write, one reads, one settles."""
    inbox, _ = tls_doors.consuming(JOBS, None, prefetch=2)
    publisher = tls_doors.common_publisher
    failed: list[BaseException] = []

    def publish(number: int) -> None:
        try:
            for _ in range(3):
                publisher.publish(message("jobs", bytes([number]) * 4_000_000)).wait(soon() + 30)
        except BaseException as error:  # noqa: BLE001 -- told by the test
            failed.append(error)

    writers = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    sizes = []
    for _ in range(9):
        delivery = inbox.next()
        sizes.append((len(delivery.body), len(set(delivery.body))))
        delivery.settle(Verdict.ACK)
    for writer in writers:
        writer.join()
    assert failed == []
    assert sizes == [(4_000_000, 1)] * 9


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "name the authority with AMQP_SSL: {ca_certs"),
        ({"ca_certs": "cert.pem", "server_hostname": "rabbit.example"}, "AMQP_SSL: {server_hostname"),
        ({"ca_certs": "not-there.pem"}, "a file that AMQP_SSL names"),
        ({"ca_certs": "cert.pem", "certfile": "key.pem"}, "a file that AMQP_SSL names"),
    ],
)
def test_what_tls_does_not_accept_is_refused_with_the_fix(
    tls_node: tuple[RabbitMQNode, int],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(certificate)
    doors, diary = Doors(RabbitMQBroker(tls_uri(tls_node), ssl=options or True)), Diary()
    doors.publisher(events=diary.events)
    diary.wait_for("refused")
    assert words in str(diary.errors[0])
    doors.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("host", "word"), [("127.0.0.1", "ready"), ("127.0.0.2", "refused")])
def test_the_name_of_the_host_is_checked_if_that_is_asked_for(
    tls_node: tuple[RabbitMQNode, int], certificate: Path, host: str, word: str
) -> None:
    options = {"ca_certs": str(certificate / "cert.pem"), "server_hostname": None}
    doors, diary = Doors(RabbitMQBroker(tls_uri(tls_node).replace("127.0.0.1", host), ssl=options)), Diary()
    doors.publisher(events=diary.events)
    diary.wait_for(word)
    doors.close()


@pytest.mark.timeout(120)
def test_tls_to_a_port_without_it_is_refused_with_the_fix(amqp_uri: str) -> None:
    doors, diary = Doors(RabbitMQBroker(amqp_uri.replace("amqp://", "amqps://"))), Diary()
    doors.publisher(events=diary.events)
    diary.wait_for("refused")
    assert "does not speak TLS" in str(diary.errors[0])
    doors.close()


@pytest.mark.timeout(120)
def test_a_lost_tls_connection_is_made_anew(tls_node: tuple[RabbitMQNode, int], tls_doors: Doors) -> None:
    diary, inbox = Diary(), Inbox(Verdict.ACK)
    tls_doors.consumer(Subscription(JOBS, 10, inbox.take), events=diary.events)
    diary.wait_for("ready")
    for connection in tls_node[0].connections():
        tls_node[0].close_connection(connection.name)
    diary.wait_for("ready", "lost", "ready")
    tls_doors.send(message("jobs", "again"))
    assert inbox.bodies(1) == ["again"]
