"""Identifiers: uuid4's form, never the same twice, whatever thread or process asks."""

import os
import threading
import uuid

from micro_framework.identifiers import AT_ONCE, new_identifier

MORE_THAN_AT_ONCE = 3 * AT_ONCE + 1


def test_an_identifier_is_a_uuid_of_version_4_as_python_writes_it() -> None:
    for identifier in (new_identifier() for _ in range(MORE_THAN_AT_ONCE)):
        parsed = uuid.UUID(identifier)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, identifier)


def test_all_variants_occur() -> None:
    assert {identifier[19] for identifier in (new_identifier() for _ in range(MORE_THAN_AT_ONCE))} == set("89ab")


def test_no_two_are_the_same_in_any_thread() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend([new_identifier() for _ in range(MORE_THAN_AT_ONCE)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(made)) == len(made) == 4 * MORE_THAN_AT_ONCE


def test_a_forked_child_makes_its_own() -> None:
    new_identifier()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_identifier().encode())
        os._exit(0)
    os.waitpid(child, 0)
    try:
        assert os.read(reader, 100).decode() != new_identifier()
    finally:
        os.close(reader)
        os.close(writer)
