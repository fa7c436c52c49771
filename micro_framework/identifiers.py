"""Random identifiers for calls: as `uuid.uuid4` writes them, without asking the kernel for each.

``uuid4`` calls ``os.urandom``, for which Python gives up the interpreter; with ten workers that switches threads at
every message, which costs more than the rest of the call. Here each thread takes random bytes a block at a time.
"""

import os
import threading

__all__ = ["new_identifier"]

BLOCK = 4096
SIZE = 16
VARIANTS = "89ab"


class Blocks(threading.local):
    """Each thread's block of random bytes, as hexadecimal digits, and how far it is used up."""

    digits = ""
    used = 0


blocks = Blocks()


def new_identifier() -> str:
    """A random UUID, version 4, with dashes. Thread safe, and different in a forked child."""
    at = blocks.used
    digits = blocks.digits[at : at + 2 * SIZE]
    if not digits:
        blocks.digits, at = os.urandom(BLOCK).hex(), 0
        digits = blocks.digits[: 2 * SIZE]
    blocks.used = at + 2 * SIZE
    variant = VARIANTS[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def forget_blocks() -> None:
    """After a fork: parent and child must not go on with the same bytes. Only the forking thread lives on there."""
    blocks.digits = ""
    blocks.used = 0


os.register_at_fork(after_in_child=forget_blocks)
