"""The validated view of a configuration."""

import dataclasses
import math
import pickle

import pytest

from micro_framework.config import (
    NO_DEADLINE,
    ContextSettings,
    MetricsSettings,
    SerializerSettings,
    Settings,
    WebSocketSettings,
)
from micro_framework.exceptions import ConfigError

DEFAULTS = {
    "amqp_uri": None,
    "amqp_ssl": None,
    "login_method": None,
    "transport_options": {},
    "heartbeat": 60,
    "service_name": None,
    "max_workers": 10,
    "worker_mode": "thread",
    "prefetch_count": None,
    "processes": 1,
    "max_tasks_per_child": None,
    "task_timeout": None,
    "contexts": {},
    "rpc_timeout": 60,
    "publish_timeout": 10,
    "start_timeout": 30,
    "shutdown_timeout": 30,
    "retry_backend": "queues",
    "dead_letter": False,
    "max_crashes": 3,
    "json_types": "tagged",
    "rpc_exchange": "nameko-rpc",
    "serializer": "json",
    "accept": ("json",),
    "serializers": {},
    "parent_calls_tracked": 10,
    "auto_delete_event_exchanges": False,
    "declare_event_exchanges": True,
    "enable_metrics": False,
    "metrics": MetricsSettings("0.0.0.0", 8000),
    "websocket_ip": "0.0.0.0",
    "websocket_port": 8765,
    "websocket": WebSocketSettings(),
    "logging": None,
    "raw": {},
}


def problems_of(mapping, **options):
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping(mapping, **options)
    return caught.value.problems


def test_defaults_are_the_contract():
    settings = Settings.from_mapping({})
    assert {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)} == DEFAULTS
    assert Settings() == settings


@pytest.mark.parametrize(
    ("mapping", "attribute", "expected"),
    [
        ({"AMQP_URI": "memory://"}, "amqp_uri", "memory://"),
        ({"MAX_WORKERS": 3}, "max_workers", 3),
        ({"max_workers": 3}, "max_workers", 3),
        ({"max_workers": 0}, "max_workers", 10),
        ({"MAX_WORKERS": None}, "max_workers", 10),
        ({"MAX_WORKERS": 3, "max_workers": 3}, "max_workers", 3),
        ({"MAX_WORKERS": 3, "max_workers": 0}, "max_workers", 3),
        ({"WORKER_MODE": "greedy_thread"}, "worker_mode", "greedy_thread"),
        ({"WORKER_MODE": "process"}, "worker_mode", "process"),
        ({"WORKER_MODE": "greedy_process"}, "worker_mode", "greedy_process"),
        ({"MAX_TASKS_PER_CHILD": 100}, "max_tasks_per_child", 100),
        ({"TASK_TIMEOUT": 1.5}, "task_timeout", 1.5),
        ({"PREFETCH_COUNT": 2}, "prefetch_count", 2),
        ({"PROCESSES": 4, "AMQP_URI": "amqp://localhost"}, "processes", 4),
        ({"PROCESSES": None}, "processes", 1),
        ({"PROCESSES": 1, "AMQP_URI": "memory://"}, "processes", 1),
        ({"RPC_TIMEOUT": None}, "rpc_timeout", NO_DEADLINE),
        ({"RPC_TIMEOUT": math.inf}, "rpc_timeout", NO_DEADLINE),
        ({"RPC_TIMEOUT": 0.5}, "rpc_timeout", 0.5),
        ({"SHUTDOWN_TIMEOUT": 0}, "shutdown_timeout", 0),
        ({"HEARTBEAT": 0}, "heartbeat", 0),
        ({"serializer": "pickle"}, "accept", ("pickle",)),
        ({"serializer": "pickle", "ACCEPT": ["json", "pickle"]}, "accept", ("json", "pickle")),
        ({"AMQP_SSL": {"ca_certs": "x"}}, "amqp_ssl", {"ca_certs": "x"}),
        ({"PROCESSES": 1, "DEAD_LETTER": False, "ENABLE_METRICS": False}, "dead_letter", False),
        ({"ENABLE_METRICS": True}, "metrics", MetricsSettings("0.0.0.0", 8000)),
        ({"METRICS": {"HOST": "127.0.0.1", "PORT": 0}}, "metrics", MetricsSettings("127.0.0.1", 0)),
        ({"LOGGING": {"root": {}}}, "logging", {"version": 1, "disable_existing_loggers": False, "root": {}}),
        ({"WEBSOCKET_PORT": 1, "WEB_SERVER_ADDRESS": "0.0.0.0:8000"}, "max_workers", 10),
    ],
)
def test_a_key_is_read(mapping, attribute, expected):
    assert getattr(Settings.from_mapping(mapping), attribute) == expected


def test_contexts_and_serializers_are_read():
    settings = Settings.from_mapping(
        {
            "CONTEXTS": {
                "slow": {"max_workers": 2, "WORKER_MODE": "greedy_thread"},
                "apart": {"WORKER_MODE": "process", "MAX_TASKS_PER_CHILD": 5, "TASK_TIMEOUT": 2},
                "bare": None,
            },
            "SERIALIZERS": {"upper": {"encoder": "a.b", "decoder": "a.c", "content_type": "text/upper"}},
        }
    )
    assert settings.contexts == {
        "slow": ContextSettings(2, "greedy_thread", None),
        "apart": ContextSettings(worker_mode="process", max_tasks_per_child=5, task_timeout=2),
        "bare": ContextSettings(),
    }
    assert settings.serializers == {"upper": SerializerSettings("a.b", "a.c", "text/upper", "utf-8")}


def test_the_users_mapping_is_kept_and_unknown_keys_pass():
    mapping = {"MY_OWN": 1, "DATABASE": {"url": "x"}, 5: 6}
    assert Settings.from_mapping(mapping).raw is mapping


def test_all_problems_come_in_one_message():
    problems = problems_of(
        {
            "MAX_WORKERS": "10",
            "AMQP_URI": "redis://u:hunter2@h",
            "AMQP_URL": "x",
            "CONTEXTS": {"slow": {"MAX_WORKERS": 0}},
            "METRICS": {"PORT": 70000},
        }
    )
    assert len(problems) == 5
    starts = ("AMQP_URI ", "MAX_WORKERS is '10'", "METRICS.PORT is 70000", "CONTEXTS.slow.MAX_WORKERS")
    for start in starts:
        assert any(problem.startswith(start) for problem in problems), start
    assert "did you mean AMQP_URI?" in problems[-1]
    assert "hunter2" not in "".join(problems)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AMQP_URL", "AMQP_URI"),
        ("amqp_uri", "AMQP_URI"),
        ("MAX_WORKER", "MAX_WORKERS"),
        ("MAX_WOKRERS", "MAX_WORKERS"),
        ("RPC_EXCHANGE", "rpc_exchange"),
        ("Logging", "LOGGING"),
        ("CONTEXT", "CONTEXTS"),
    ],
)
def test_a_misspelt_key_is_refused_unless_somebody_reads_it(name, meant):
    (problem,) = problems_of({name: 1})
    assert name in problem
    assert f"did you mean {meant}?" in problem
    assert Settings.from_mapping({name: 1}, extra_keys=[name]).raw == {name: 1}


def test_three_letters_away_is_somebody_elses_key():
    assert Settings.from_mapping({"AMQP_HOST": "x", "WEBSOCKET_URL": "x"}).max_workers == 10


@pytest.mark.parametrize("uri", ["memory://", "memory://shared"])
def test_copies_cannot_share_the_embedded_broker(uri):
    (problem,) = problems_of({"PROCESSES": 2, "AMQP_URI": uri})
    assert problem.startswith("PROCESSES is 2 and AMQP_URI is the embedded broker")
    assert "use RabbitMQ, or PROCESSES: 1" in problem


def test_two_spellings_must_agree():
    (problem,) = problems_of({"MAX_WORKERS": 1, "max_workers": 2})
    assert "one key" in problem
    (problem,) = problems_of({"CONTEXTS": {"slow": {"MAX_WORKERS": 1, "max_workers": 2}}})
    assert problem.startswith("CONTEXTS.slow.MAX_WORKERS")


def test_something_else_than_a_mapping_is_refused():
    assert problems_of(["AMQP_URI"]) == ("it is of type list; expected a mapping of keys to values",)


def test_settings_are_frozen_picklable_and_print_no_password():
    settings = Settings.from_mapping({"AMQP_URI": "amqp://u:hunter2@h", "MY_PASSWORD": "hunter2"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.max_workers = 1
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert "hunter2" not in repr(settings)
