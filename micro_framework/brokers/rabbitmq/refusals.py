"""Which answers of the broker will not change by asking again, and what to do about each."""

import re
import ssl

import amqp

from micro_framework.brokers.rabbitmq.endpoints import Address
from micro_framework.exceptions import BrokerRefused

__all__ = ["PASSING", "is_away", "overdue_after", "readable", "refusal_for"]

PASSING = re.compile(r"connection limit|is down|in exclusive use|home node|timed out", re.IGNORECASE)
"""Words in an answer of a refusing kind that say it may change by itself."""

AWAY = re.compile(r"home node .* is down or inaccessible", re.IGNORECASE)
"""What a cluster says of a queue that lives on a node which is down."""
OVERDUE = re.compile(r"delivery acknowledgement.* timed out.*?(\d+) ms", re.IGNORECASE)
"""How RabbitMQ closes a channel on which a delivery was kept for longer than its ``consumer_timeout``."""

OTHER_NAME = (62, 64)
"""OpenSSL's codes for a certificate of another host name, or of another address."""
CERTIFICATE_WANTED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
"""What a broker says to a client that shows no certificate."""
UNUSABLE_FILE = re.compile(r"PEM lib|NO_CERTIFICATE_OR_CRL_FOUND|KEY_VALUES_MISMATCH")
"""What OpenSSL says of our own certificates and keys."""
NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
"""OpenSSL's reasons when the other side answers in clear."""
DECLARING = (40, 50)
"""The AMQP classes exchange and queue."""


def readable(error: BaseException) -> str:
    """An error as one line for a log."""
    if isinstance(error, amqp.AMQPError):
        method = f"{error.method_name}: " if error.method_name else ""
        return f"{method}{error.reply_text}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'reason', None) or error}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.lower() if text.istitle() else text or type(error).__name__


def is_away(error: BaseException) -> bool:
    """Whether an error says of a queue that it will be there again, with what it holds, once its node is."""
    return isinstance(error, amqp.NotFound) and AWAY.search(error.reply_text or "") is not None


def overdue_after(error: BaseException) -> float | None:
    """The seconds within which the broker wanted a message settled that was not; None where an error is about another
    thing.
    """
    text = error.reply_text if isinstance(error, amqp.PreconditionFailed) else None
    match = OVERDUE.search(text or "")
    return int(match[1]) / 1000 if match else None


def refusal_for(error: BaseException, address: Address) -> BrokerRefused | None:
    """The refusal that an error stands for, None for one that may pass.

    Args:
        error: What connecting, declaring or consuming raised.
        address: Where.
    """
    if isinstance(error, BrokerRefused):
        return error
    text = tls_refusal(error, address)
    if text is None and isinstance(error, amqp.AMQPError) and not PASSING.search(error.reply_text or ""):
        text = amqp_refusal(error, address)
    return BrokerRefused(text) if text else None


def tls_refusal(error: BaseException, address: Address) -> str | None:
    if isinstance(error, FileNotFoundError | IsADirectoryError) or (
        isinstance(error, ssl.SSLError) and UNUSABLE_FILE.search(str(error))
    ):
        return (
            f"a file that AMQP_SSL names for {address} cannot be used: {readable(error)}; expected ca_certs and "
            "certfile to be certificates and keyfile the key of certfile, as PEM, with paths from the current directory"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in OTHER_NAME:
            fix = (
                "for this host; name in AMQP_URI a host that it is for, or the name that counts instead: "
                "AMQP_SSL: {server_hostname: ...}"
            )
        else:
            fix = "that a known authority signed; name the authority with AMQP_SSL: {ca_certs: /path/to/ca.pem}"
        return f"the certificate of {address} was not accepted: {error.verify_message.rstrip('.')}; expected one {fix}"
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    if reason == CERTIFICATE_WANTED:
        return (
            f"{address} wants a certificate of its clients too; name one that it accepts, with its key: "
            "AMQP_SSL: {certfile: /path/to/client.pem, keyfile: /path/to/client.key}"
        )
    if reason in NO_TLS:
        return f"{address} does not speak TLS on that port; use its TLS port (often 5671), or amqp:// without AMQP_SSL"
    return None


def amqp_refusal(error: amqp.AMQPError, address: Address) -> str | None:
    said = f"the broker at {address} said {readable(error)!r}"
    vhost, user = shell_word(address.vhost), shell_word(address.user)
    permissions = f"rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'"
    if isinstance(error, amqp.AccessRefused):
        if error.method_sig in (None, (0, 0)) or str(error.method_name).startswith("Connection"):
            return (
                f"login as {address.user!r} was refused: {said}; expected a user with this password: correct AMQP_URI, "
                f"or rabbitmqctl change_password {user} <password> (rabbitmqctl add_user if there is none)"
            )
        return f"{address.user!r} may not do this: {said}; grant it with: {permissions}"
    if isinstance(error, amqp.NotAllowed):
        return not_allowed(error, said, address.vhost, vhost, permissions)
    if isinstance(error, amqp.PreconditionFailed) and (error.method_sig or (0,))[0] in DECLARING:
        return (
            f"something exists with other flags: {said}; declare it with the flags it has, or delete it when it is "
            "empty and let it be declared anew: " + deletion(error.reply_text or "", vhost)
        )
    if isinstance(error, amqp.ResourceLocked):
        return (
            f"a queue belongs to another connection: {said}; it is exclusive, and ends with that connection; "
            "stop the other process or use another queue name (for a broadcast another broadcast_identifier)"
        )
    if isinstance(error, amqp.AMQPNotImplementedError) or "unknown exchange type" in (error.reply_text or ""):
        return f"the broker lacks what is asked of it: {said}; enable the plugin that brings it, or do without"
    if "auth mechanism" in str(error):
        return f"no way to log in that both sides know: {error} at {address}; correct LOGIN_METHOD"
    return None


def not_allowed(error: amqp.AMQPError, said: str, name: str, vhost: str, permissions: str) -> str | None:
    if "not found" in error.reply_text:
        fix = f"rabbitmqctl add_vhost {vhost} && {permissions}"
        return f"the virtual host {name!r} does not exist: {said}; create it: {fix}"
    return f"the virtual host {name!r} is not open to this user: {said}; grant it with: {permissions}"


def deletion(text: str, vhost: str) -> str:
    match = re.search(r"for (queue|exchange) '([^']*)'", text)
    if match is None or match[1] == "exchange":
        return f"rabbitmqadmin --vhost={vhost} delete exchange name=<name>"
    return f"rabbitmqctl delete_queue -p {vhost} {shell_word(match[2])} --if-empty"


def shell_word(text: str) -> str:
    return text if re.fullmatch(r"[\w./@-]+", text) else f"'{text}'"
