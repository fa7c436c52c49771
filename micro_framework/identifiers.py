"""Random identifiers for calls: as `uuid.uuid4` writes them, without asking the kernel for each.

``uuid4`` calls ``os.urandom``, for which Python gives up the interpreter; with ten workers that switches threads at
every message, which costs more than the rest of the call. Here each thread takes random bytes for many at a time, and
writes them all at once: digit by digit, the same one of every identifier in one step.
"""

import os
import threading
from collections.abc import Iterator

__all__ = ["new_identifier"]

AT_ONCE = 64
BITS = 128
LENGTH = 36
DIGITS = [at for at in range(LENGTH) if at not in (8, 13, 18, 23)]
"""Where the digits are; dashes are between them."""
VERSION, VARIANT = 14, 19
"""Where the digits are that say how it was made (RFC 9562, sections 4.1 and 4.2)."""
VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


class Supply(threading.local):
    """Each thread's identifiers that are still to be used."""

    identifiers: Iterator[str] = iter(())


supply = Supply()


def new_identifier() -> str:
    """A random UUID, version 4, with dashes. Thread safe, and different in a forked child."""
    identifier = next(supply.identifiers, None)
    if identifier is None:
        supply.identifiers = iter(several_identifiers())
        identifier = next(supply.identifiers)
    return identifier


def several_identifiers() -> list[str]:
    """`AT_ONCE` new ones."""
    random = os.urandom(AT_ONCE * BITS // 8).hex().encode()
    text = bytearray(b"-" * LENGTH * AT_ONCE)
    for number, at in enumerate(DIGITS):
        text[at::LENGTH] = random[number :: len(DIGITS)]
    text[VERSION::LENGTH] = b"4" * AT_ONCE
    text[VARIANT::LENGTH] = text[VARIANT::LENGTH].translate(VARIANTS)
    whole = text.decode()
    return [whole[at : at + LENGTH] for at in range(0, len(whole), LENGTH)]


def forget_supply() -> None:
    """After a fork: parent and child must not go on with the same ones. Only the forking thread lives on there."""
    supply.identifiers = iter(())


os.register_at_fork(after_in_child=forget_supply)
