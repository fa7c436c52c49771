from pathlib import Path

import pytest

from micro_framework.migration.grading import AS_IT_IS, BY_HAND, BY_IMPORT, graded
from micro_framework.migration.tree import read_tree

INTEROP = Path(__file__).resolve().parents[2] / "interop_tests" / "services" / "nameko_services.py"
HEAD = """
import eventlet
from nameko.events import BROADCAST, SINGLETON, EventDispatcher, event_handler
from nameko.extensions import DependencyProvider
from nameko.rpc import RpcProxy, rpc
from nameko.web.handlers import http
from nameko_redis import Redis
class S:
    name = "s"
"""


@pytest.fixture
def report(tmp_path):
    def read(text, **others):
        (tmp_path / "app.py").write_text(text)
        for name, other in others.items():
            (tmp_path / f"{name}.py").write_text(other)
        return graded(read_tree(tmp_path))

    return read


@pytest.mark.parametrize(
    ("body", "grade"),
    [
        ("    @rpc\n    def m(self): pass", AS_IT_IS),
        ("    @http('GET', '/')\n    def m(self, request): pass", BY_IMPORT),
        ("    @rpc\n    def m(self): eventlet.sleep(1)", BY_HAND),
        ("    r = Redis('x')\n    @rpc\n    def m(self): self.r.get('a')", BY_HAND),
        ("    r = Redis('x')\n    @rpc\n    def m(self): pass", BY_IMPORT),
        ("    d = EventDispatcher(priority=3)\n    @rpc\n    def m(self): pass", BY_IMPORT),
    ],
)
def test_each_method_gets_a_grade(report, body, grade):
    (service,) = report(HEAD + body).services
    assert [method.grade for method in service.methods] == [grade]


@pytest.mark.parametrize(
    ("decorator", "queue"),
    [
        ("@rpc", "rpc-s"),
        ("@event_handler('a', 'b')", "evt-a-b--s.m"),
        ("@event_handler('a', event_type='b', handler_type=SINGLETON)", "evt-a-b"),
        ("@event_handler('a', 'b', BROADCAST, False)", "evt-a-b--s.m-<broadcast_identifier>"),
        ("@event_handler(unknown(), 'b')", "evt-<source_service>-b--s.m"),
    ],
)
def test_queues_have_namekos_names(report, decorator, queue):
    (service,) = report(f"{HEAD}    {decorator}\n    def m(self, payload): pass").services
    assert service.methods[0].entrypoints[0].queue == queue


def test_calls_and_events_are_told(report):
    body = """
    d = EventDispatcher()
    pay = RpcProxy("payments")
    @rpc
    def m(self):
        self.pay.charge.call_async(1)
        self.d("done", {})
"""
    (service,) = report(HEAD + body).services
    assert service.methods[0].calls == ["payments.charge"]
    assert service.methods[0].sends == ["s/done"]
    assert [(each.name, each.native) for each in service.dependencies] == [("d", "Producer"), ("pay", "RPCProxy")]


def test_what_a_mixin_in_another_file_declares_counts(report):
    found = report(
        "from mixin import Mixin\nclass S(Mixin):\n    pass\n",
        mixin="from nameko.rpc import rpc\nclass Mixin:\n    name = 'm'\n    @rpc\n    def ping(self): pass\n",
    )
    assert {(each.name, each.class_name) for each in found.services} == {("m", "S"), ("m", "Mixin")}


def test_an_override_without_a_decorator_removes_the_target(report):
    found = report(HEAD + "    @rpc\n    def m(self): pass\nclass T(S):\n    def m(self): pass\n")
    assert [each.class_name for each in found.services] == ["S"]


def test_a_class_and_its_bases_stay_together(report):
    found = report(
        HEAD + "    @rpc\n    def m(self): pass\nclass T(S):\n    @http('GET', '/')\n    def n(self, r): pass\n"
    )
    assert [each.native for each in found.services] == [False, False]


def test_eventlet_is_told_with_its_line(report):
    found = report("import eventlet\neventlet.monkey_patch()\n")
    assert {(each.line, each.hand) for each in found.findings} == {(1, True), (2, True)}
    assert found.needs_a_hand


def test_the_interop_services_are_read_whole():
    found = graded(read_tree(INTEROP))
    assert {each.name: len(each.methods) for each in found.services} == {
        "source": 5,
        "target": 21,
        "caller": 4,
        "web": 10,
        "ticker": 1,
    }
    assert not found.needs_a_hand
    queues = {method.name: method.entrypoints[0].queue for method in found.services[1].methods}
    assert queues["on_pool"] == "evt-source-evt.pool--target.on_pool"
    assert queues["on_raw"] == "raw.queue"
