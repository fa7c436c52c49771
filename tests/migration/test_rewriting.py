import types
from pathlib import Path

import pytest

from micro_framework.migration.rewriting import rewritten
from micro_framework.migration.tree import read_tree
from micro_framework.runner import Runner
from micro_framework.testing import client_for, running

INTEROP = Path(__file__).resolve().parents[2] / "interop_tests" / "services" / "nameko_services.py"
LISTENER = "from micro_framework.amqp.entrypoints import RPCListener\n"
SERVICE = '''"""Doc."""
# before
from nameko.events import SERVICE_POOL, EventDispatcher, event_handler as on  # events
from nameko.rpc import rpc as r, RpcProxy
import nameko.timer


class Adder:
    name = "adder"  # its name
    dispatch = EventDispatcher(use_confirms=True)
    me = RpcProxy("adder")

    @r   # decorated
    def add(self, a, b=1):
        return a + b

    @r(sensitive_variables=("a",))
    def twice(self, a):
        return self.me.add.call_async(a, b=a).result()

    @on("adder", event_type="added", handler_type=SERVICE_POOL)
    def added(self, payload): pass

    @nameko.timer.timer(interval=3600)
    def tick(self): pass
'''

COMPAT = [
    ("from nameko.rpc import rpc  # x\n", "from nameko_compat.rpc import rpc  # x\n"),
    ("from nameko import config, rpc as x\n", "from nameko_compat import config, rpc as x\n"),
    ("import nameko.rpc, os\nx = nameko.rpc.rpc\n", "import nameko_compat.rpc, os\nx = nameko_compat.rpc.rpc\n"),
    ("import nameko.rpc as n\nn.rpc\n", "import nameko_compat.rpc as n\nn.rpc\n"),
    (
        "import nameko.rpc\ndef f(nameko): return nameko.x\n",
        "import nameko_compat.rpc\ndef f(nameko): return nameko.x\n",
    ),
    ("from .nameko import x\nimport nameko_redis\n", "from .nameko import x\nimport nameko_redis\n"),
    ("import nameko.testing.rabbit\n", "import nameko.testing.rabbit\n"),
    (
        "try:\r\n\timport nameko\r\nexcept ImportError: pass",
        "try:\r\n\timport nameko_compat\r\nexcept ImportError: pass",
    ),
]
BOTH = """from {0}.rpc import rpc
from {0}.web.handlers import http
class A:
    @rpc
    @http('GET', '/')
    def f(self): pass
"""
TAKEN = """from nameko.rpc import rpc
RPCListener = 1
class A:
    @rpc
    def f(self): return RPCListener
"""
TAKEN_AFTER = """from micro_framework.amqp.entrypoints import RPCListener as NativeRPCListener
RPCListener = 1
class A:
    @NativeRPCListener()
    def f(self): return RPCListener
"""
NATIVE = [
    (
        "from nameko.rpc import rpc\nclass A:\n    @rpc\n    def f(self): pass\n",
        f"{LISTENER}class A:\n    @RPCListener()\n    def f(self): pass\n",
    ),
    (TAKEN, TAKEN_AFTER),
    (BOTH.format("nameko"), BOTH.format("nameko_compat")),
]
TEXTS = [SERVICE, SERVICE.replace("\n", "\r\n"), INTEROP.read_text(), *(text for text, _ in [*COMPAT, *NATIVE])]


def run(folder, text, goal):
    file = folder / "app.py"
    file.write_bytes(text.encode())
    found = list(rewritten(read_tree(file), goal))
    return found[0].after if found else text


@pytest.mark.parametrize(("before", "after"), COMPAT)
def test_imports_for_namekos_names_on_this_runner(tmp_path, before, after):
    assert run(tmp_path, before, "compat") == after


@pytest.mark.parametrize(("before", "after"), NATIVE)
def test_imports_and_decorators_of_this_framework(tmp_path, before, after):
    assert run(tmp_path, before, "native") == after


@pytest.mark.parametrize("goal", ["compat", "native"])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_second_time_changes_nothing(tmp_path, text, goal):
    once = run(tmp_path, text, goal)
    assert run(tmp_path, once, goal) == once
    compile(once, "app.py", "exec")


def test_comments_and_line_ends_are_kept(tmp_path):
    after = run(tmp_path, SERVICE.replace("\n", "\r\n"), "native")
    for comment in ("# before", "# events", "# its name", "   # decorated"):
        assert after.count(comment) == 1
    assert after.count("\n") == after.count("\r\n")


def test_namekos_names_first_and_native_later_is_the_same_as_native_at_once(tmp_path):
    assert run(tmp_path, run(tmp_path, SERVICE, "compat"), "native") == run(tmp_path, SERVICE, "native")


def test_a_rewritten_service_runs(tmp_path):
    module = types.ModuleType("rewritten_adder")
    exec(compile(run(tmp_path, SERVICE, "native"), "app.py", "exec"), module.__dict__)  # noqa: S102 - it is ours
    with running(module.Adder) as runner, client_for(runner) as client:
        assert client.adder.add(1, b=2) == 3
        assert client.adder.twice(4) == 8
    assert "nameko" not in " ".join(name for name in vars(module) if name != "__name__")


def test_the_timer_of_the_interop_services_becomes_native_and_the_others_say_why_they_stay(tmp_path):
    (found,) = rewritten(read_tree(INTEROP), "native")
    assert [text.split()[0] for _, text in found.notes if "stays on" in text] == ["Source", "Target", "Caller", "Web"]
    start = found.after.index("class Ticker:")
    module = types.ModuleType("rewritten_ticker")
    head = "".join(line for line in found.after.splitlines(keepends=True) if line.startswith("from micro_framework"))
    exec(compile(head + found.after[start:], "ticker.py", "exec"), module.__dict__)  # noqa: S102 - it is ours
    assert Runner([module.Ticker], {"AMQP_URI": "memory://"}).assembly.routes
