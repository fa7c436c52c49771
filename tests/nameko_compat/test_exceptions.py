"""Nameko's exceptions: what they are here, and what they are on the wire."""

import pytest

from micro_framework import exceptions as own
from nameko_compat import exceptions
from nameko_compat.exceptions import (
    BadRequest,
    RemoteError,
    RpcTimeout,
    UnknownService,
    deserialize,
    deserialize_to_instance,
    get_module_path,
    registry,
    serialize,
)


@pytest.mark.parametrize("name", ["MethodNotFound", "IncorrectSignature", "MalformedRequest"])
def test_bad_requests_are_namekos_on_the_wire_and_the_same_classes_here(name: str) -> None:
    kind = getattr(exceptions, name)
    assert issubclass(kind, BadRequest)
    assert kind is getattr(own, name)
    assert get_module_path(kind) == f"nameko.exceptions.{name}"
    back = deserialize(serialize(kind("why")))
    assert type(back) is kind
    assert back.args == ("why",)


def test_the_others_are_the_same_classes() -> None:
    assert (RemoteError, UnknownService, RpcTimeout) == (own.RemoteError, own.UnknownService, own.RPCTimeout)


def test_a_registered_class_comes_back_as_itself() -> None:
    @deserialize_to_instance
    class Refused(Exception): ...

    try:
        assert type(deserialize(serialize(Refused(1)))) is Refused
    finally:
        del registry[get_module_path(Refused)]
    lost = deserialize(serialize(Refused(1)))
    assert isinstance(lost, RemoteError)
    assert (lost.exc_type, lost.value) == ("Refused", "1")
