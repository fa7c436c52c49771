"""What a runner hands to its copies."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.assembly import RunnerContext
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.exceptions import CopyFailed, DeclarationError
from micro_framework.parcels import pack, unpack
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import CallbackRoute, Route

SECONDS = 20


class Shop:
    name = "shop"

    @TimeEntrypoint(60)
    def tick(self) -> None: ...


def handle(payload: Any, producer: Any) -> None: ...


def wanted(payload: Any) -> bool:
    return True


def test_services_and_configuration_arrive_as_they_were() -> None:
    producer = Producer()
    first = CallbackRoute(
        "tasks.test",
        EventListener("web", "sold", payload_filter=wanted),
        {"producer": producer},
        backoff=AsyncBackOff(3, 1000, [TimeoutError, "app.errors.Busy"]),
        callback_function_path="tasks.failed",
    )
    second = Route(handle, EventListener("web", "bought"), {"producer": producer})
    config = {"AMQP_URI": "amqp://localhost", "OWN": {"key": [1, 2]}}
    services, arrived = unpack(pack([Shop, RunnerContext([first, second], name="slow", max_workers=2)], config))
    assert services[0] is Shop
    context = services[1]
    assert isinstance(context, RunnerContext)
    assert (context.name, context.settings.max_workers) == ("slow", 2)
    one, two = context.routes
    assert isinstance(one, CallbackRoute)
    assert isinstance(two, Route)
    assert (one.target, one.callback, two.target) == ("tasks.test", "tasks.failed", handle)
    assert isinstance(one.entrypoint, EventListener)
    assert (one.entrypoint.event_name, one.entrypoint.payload_filter) == ("sold", wanted)
    assert one.backoff is not None
    assert one.backoff.policy == first.backoff.policy  # type: ignore[union-attr]
    assert one.dependencies["producer"] is two.dependencies["producer"], "what was shared is shared"
    assert arrived == config


def test_everything_that_cannot_travel_is_named_with_the_way_out() -> None:
    class Local:
        name = "local"

        @TimeEntrypoint(60)
        def tick(self) -> None: ...

    filtered = Route(handle, EventListener("web", "sold", payload_filter=lambda payload: True))
    targeted = Route(lambda payload: None, EventListener("web", "bought"))
    config = {"AMQP_URI": "amqp://localhost", "LOCK": threading.Lock()}
    with pytest.raises(DeclarationError) as caught:
        pack([Shop, Local, RunnerContext([filtered]), targeted], config)
    local, entrypoint, target, key = caught.value.problems
    assert "test_everything_that_cannot_travel_is_named_with_the_way_out.<locals>.Local cannot be handed to" in local
    assert entrypoint.startswith("entrypoint of Route(handle) cannot be handed to other processes (Can't ")
    assert target.startswith("target of Route(test_everything_that_cannot")
    assert key.startswith("the configuration's LOCK cannot be handed to other processes (cannot pickle '_thread.lock'")
    assert all("put it at the top level of a module" in problem for problem in (local, entrypoint, target))
    assert "use plain values" in key


SESSION = """
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.parcels import pack
class Shop:
    name = "shop"
    @TimeEntrypoint(60)
    def tick(self): ...
pack([Shop], {})
"""


def test_what_a_session_defines_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert "class Shop cannot be handed to other processes (it is defined in a session, and a session" in done.stderr


def test_what_cannot_be_imported_where_it_arrives_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_up", sys.modules[__name__])
    monkeypatch.setattr(Shop, "__module__", "made_up")
    parcel = pack([Shop], {})
    monkeypatch.delitem(sys.modules, "made_up")
    with pytest.raises(CopyFailed, match="a copy cannot load the services that it was given: ModuleNotFoundError"):
        unpack(parcel)
