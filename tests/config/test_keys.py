"""The table of known keys."""

import pytest
import yaml

from micro_framework.config.keys import KEYS, Key, Section
from micro_framework.config.reading import Reading

CONTRACT = set(
    """
    AMQP_URI SERVICE_NAME MAX_WORKERS max_workers WORKER_MODE MAX_TASKS_PER_CHILD TASK_TIMEOUT PROCESSES
    PREFETCH_COUNT RPC_TIMEOUT PUBLISH_TIMEOUT START_TIMEOUT SHUTDOWN_TIMEOUT RETRY_BACKEND DEAD_LETTER MAX_CRASHES
    JSON_TYPES HEARTBEAT AMQP_SSL LOGIN_METHOD TRANSPORT_OPTIONS rpc_exchange serializer ACCEPT SERIALIZERS
    parent_calls_tracked AUTO_DELETE_EVENT_EXCHANGES DECLARE_EVENT_EXCHANGES WEB_SERVER_ADDRESS WEBSOCKET_IP
    WEBSOCKET_PORT WEBSOCKET ENABLE_METRICS METRICS CONTEXTS LOGGING
    """.split()  # noqa: SIM905  -- thirty-six quoted names are harder to read
)


def leaves(keys):
    for key in keys:
        yield from leaves(key.kind.keys) if isinstance(key.kind, Section) else [key]


def test_the_table_has_every_key_once():
    assert sorted(key.name for key in KEYS) == sorted(CONTRACT)


@pytest.mark.parametrize("key", list(leaves(KEYS)), ids=lambda key: key.name)
def test_every_example_is_accepted(key: Key):
    reading = Reading()
    reading.table({key.name: yaml.safe_load(key.example)}, [key])
    assert [problem for problem in reading.problems if "not built" not in problem] == []
