"""How samples of perf become layers; taking them needs perf and Python 3.12, and is done by hand."""

import math

from benchmarks.layers import layer_of, shares, table

FUTEX = [
    "futex_wait_queue ([kernel.kallsyms])",
    "__x64_sys_futex ([kernel.kallsyms])",
    "pthread_cond_timedwait (/lib/libc.so.6)",
    "py::WorkerThread.run:/work/micro_framework/spawners/thread.py (/tmp/perf-7.map)",
]
GIL = [
    "pthread_cond_signal (/lib/libc.so.6)",
    "drop_gil (/lib/libpython3.12.so.1.0)",
    "py::PlainTransport.receive:/work/micro_framework/brokers/rabbitmq/transport.py (/tmp/perf-7.map)",
]
JSON = [
    "scan_once_unicode (/lib/_json.so)",
    "py::JSONDecoder.raw_decode:/lib/python3.12/json/decoder.py (/tmp/perf-7.map)",
]


def sample(process: int, thread: int, frames: list[str]) -> str:
    return "\n".join([f"{process}/{thread} ", *(f"\t    7f00 {frame}" for frame in frames)])


def test_a_sample_belongs_to_the_kernel_or_to_the_innermost_python_function() -> None:
    assert layer_of(FUTEX) == "kernel: threads that wait and wake"
    assert layer_of(["irqentry_exit ([kernel.kallsyms])", *GIL]) == "kernel: the rest"
    assert layer_of(GIL) == "taking turns at the interpreter (GIL)"
    assert layer_of(GIL[2:]) == "AMQP: frames, the connection, acknowledgements, confirms"
    assert layer_of(JSON) == "JSON"
    assert layer_of(["malloc (/lib/libc.so.6)"]) == "the rest"


def test_the_main_thread_is_left_out() -> None:
    stacks = [sample(7, 7, JSON), sample(7, 8, JSON), sample(7, 9, FUTEX), sample(7, 9, JSON), sample(7, 9, JSON)]
    assert shares(stacks) == {"JSON": 0.75, "kernel: threads that wait and wake": 0.25}


def test_a_table_has_microseconds_where_they_are_known() -> None:
    found = {"JSON": 0.996, "the rest": 0.004}
    assert "| JSON | 99.6% | 39.8 |\n| less | 0.4% | 0.2 |" in table("an event", found, 40.0)
    assert "| JSON | 99.6% |\n| less | 0.4% |" in table("a call", found, math.nan)
