import pickle

import pytest

from micro_framework.wire.naming import (
    BROADCAST,
    SERVICE_POOL,
    SINGLETON,
    STANDALONE_CLIENT,
    STANDALONE_PROXY,
    Binding,
    Exchange,
    Queue,
    event_exchange,
    event_queue,
    reply_queue,
    rpc_exchange,
    rpc_queue,
    rpc_routing_key,
)
from tests.wire.golden import VERSIONS, all_messages, is_request

RPC = rpc_exchange()
RAW = Exchange("raw.exchange", type="direct")


def handler(event, method, **options):
    return event_queue("source", event, service="target", method=method, **options)


# What the captured services declare, in our words: their exchanges, and their queues with what RabbitMQ lists of them
# that differs from the declaration.
EXCHANGES = [RPC, RAW, event_exchange("source"), event_exchange("ticker"), event_exchange("web")]
QUEUES = [
    handler("evt.pool", "on_pool", handler_type=SERVICE_POOL),
    handler("evt.pool", "on_pool_second"),
    handler("evt.pool.unreliable", "on_pool_unreliable", reliable=False),
    handler("evt.single", "on_single", handler_type=SINGLETON),
    handler("evt.bcast", "on_bcast", handler_type=BROADCAST, reliable=False, broadcast_identifier="<uuid-hex>"),
    handler("evt.bcast.stable", "on_bcast_stable", handler_type=BROADCAST, broadcast_identifier="stable-id"),
    handler("evt.fail", "on_fail"),
    handler("evt.requeue", "on_requeue"),
    handler("evt.*", "on_wildcard"),
    rpc_queue("source", RPC),
    rpc_queue("target", RPC),
    rpc_queue("caller", RPC),
    reply_queue("caller", "<uuid-1>", RPC),
    reply_queue("web", "<uuid-2>", RPC),
    Queue("raw.queue", bindings=(Binding(RAW, "raw.key"),)),
    Queue("raw.requeue", bindings=(Binding(RAW, "raw.requeue"),)),
]


def exchange_declaration(exchange):
    return {
        "exchange": exchange.name,
        "type": exchange.type,
        "passive": False,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": False,
        "nowait": False,
        "arguments": dict(exchange.arguments),
    }


def queue_declaration(queue):
    return {
        "queue": queue.name,
        "passive": False,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "nowait": False,
        "arguments": dict(queue.arguments),
    }


def binding_declarations(queue):
    return [
        {
            "queue": queue.name,
            "exchange": binding.exchange.name,
            "routing_key": binding.routing_key,
            "nowait": False,
            "arguments": dict(binding.arguments),
        }
        for binding in queue.bindings
    ]


def declared_by_nameko(version, method, key):
    """What Nameko declared at start, by name; the capture's own queue is not Nameko's."""
    found = [each["args"] for each in VERSIONS[version]["declarations_at_start"] if each["method"] == method]
    return {each[key]: each for each in found if not each[key].startswith("raw-client-")}


@pytest.mark.parametrize("version", VERSIONS)
class TestDeclarationsAtStart:
    def test_exchanges(self, version):
        ours = {each.name: exchange_declaration(each) for each in EXCHANGES}
        assert ours == declared_by_nameko(version, "exchange.declare", "exchange")

    def test_queues(self, version):
        ours = {each.name: queue_declaration(each) for each in QUEUES}
        assert ours == declared_by_nameko(version, "queue.declare", "queue")

    def test_bindings(self, version):
        ours = {each["queue"]: each for queue in QUEUES for each in binding_declarations(queue)}
        assert ours == declared_by_nameko(version, "queue.bind", "queue")


@pytest.mark.parametrize("version", VERSIONS)
class TestTopologyAtTheBroker:
    def test_exchanges(self, version):
        listed = VERSIONS[version]["topology_after_start"]["exchanges"]
        ours = [
            {
                "name": each.name,
                "type": each.type,
                "durable": each.durable,
                "auto_delete": each.auto_delete,
                "internal": False,
                "arguments": dict(each.arguments),
            }
            for each in EXCHANGES
        ]
        assert ours == listed

    def test_queues(self, version):
        listed = {each["name"]: each for each in VERSIONS[version]["topology_after_start"]["queues"]}
        ours = {
            each.name: {
                "name": each.name,
                # RabbitMQ takes an exclusive queue for a transient one, whatever its declaration said.
                "durable": each.durable and not each.exclusive,
                "auto_delete": each.auto_delete,
                "exclusive": each.exclusive,
                "arguments": dict(each.arguments),
                "consumers": 1,
                "type": "classic",
            }
            for each in QUEUES
        }
        assert ours == listed

    def test_bindings(self, version):
        listed = VERSIONS[version]["topology_after_start"]["bindings"]
        ours = [
            {
                "source": binding.exchange.name,
                "destination": queue.name,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": dict(binding.arguments),
            }
            for queue in QUEUES
            for binding in queue.bindings
        ]
        assert sorted(ours, key=lambda each: (each["source"], each["destination"])) == listed


def declarations_in_scenarios():
    return [
        (version, scenario["scenario"], each)
        for version in VERSIONS
        for scenario in VERSIONS[version]["scenarios"]
        for each in scenario["client_methods"]
        if each["method"] in ("exchange.declare", "queue.declare", "queue.bind")
    ]


def expected_in_scenarios(version):
    owner = STANDALONE_PROXY if version.startswith("2") else STANDALONE_CLIENT
    standalone = [reply_queue(owner, "<uuid-1>", RPC)]
    services = [reply_queue(service, f"<uuid-{n}>", RPC) for service in ("caller", "web") for n in range(1, 7)]
    queues = [*QUEUES, *standalone, *services]
    # 3.0.0rc11 looks passively, with the same flags, whether a client's reply queue is still there.
    looked_for = [] if version.startswith("2") else standalone
    return {
        "exchange.declare": [exchange_declaration(each) for each in EXCHANGES],
        "queue.declare": [
            *(queue_declaration(each) for each in queues),
            *(queue_declaration(each) | {"passive": True} for each in looked_for),
        ],
        "queue.bind": [each for queue in queues for each in binding_declarations(queue)],
    }


@pytest.mark.parametrize(("version", "scenario", "declared"), declarations_in_scenarios())
def test_whatever_is_declared_while_running_is_one_of_ours(version, scenario, declared):
    assert declared["args"] in expected_in_scenarios(version)[declared["method"]]


def test_the_scenarios_declare_standalone_reply_queues_of_both_versions():
    names = {each["args"]["queue"] for _, _, each in declarations_in_scenarios() if "queue" in each["args"]}
    assert f"rpc.reply-{STANDALONE_PROXY}-<uuid-1>" in names
    assert f"rpc.reply-{STANDALONE_CLIENT}-<uuid-1>" in names


@pytest.mark.parametrize(("name", "message"), [each for each in all_messages("nameko") if is_request(each[1])])
def test_requests_go_to_the_key_of_service_and_method(name, message):
    service, method = message["routing_key"].split(".")
    assert rpc_routing_key(service, method) == message["routing_key"]
    assert rpc_queue(service, RPC).bindings[0].routing_key == f"{service}.*"


@pytest.mark.parametrize(
    ("options", "name", "durable", "auto_delete", "exclusive"),
    [
        ({}, "evt-s-e--t.m", True, False, False),
        ({"reliable": False}, "evt-s-e--t.m", True, True, False),
        ({"handler_type": "singleton"}, "evt-s-e", True, False, False),
        ({"handler_type": "singleton", "reliable": False}, "evt-s-e", True, True, False),
        ({"handler_type": "broadcast", "reliable": False}, "evt-s-e--t.m-id", True, True, True),
        ({"handler_type": "broadcast"}, "evt-s-e--t.m-id", True, False, False),
    ],
)
def test_every_handler_type_has_its_name_and_flags(options, name, durable, auto_delete, exclusive):
    identifier = {"broadcast_identifier": "id"} if options.get("handler_type") == "broadcast" else {}
    queue = event_queue("s", "e", service="t", method="m", **options, **identifier)
    assert (queue.name, queue.durable, queue.auto_delete, queue.exclusive) == (name, durable, auto_delete, exclusive)
    assert queue.bindings == (Binding(event_exchange("s"), "e"),)


@pytest.mark.parametrize(
    ("source", "event", "service", "method", "name"),
    [
        ("my.source", "a.b.c", "my.target", "on_it", "evt-my.source-a.b.c--my.target.on_it"),
        ("source", "#", "target", "all", "evt-source-#--target.all"),
        ("bücher", "größe", "käufer", "prüfe", "evt-bücher-größe--käufer.prüfe"),
        ("svc-with-dash", "e-v", "t-g", "m", "evt-svc-with-dash-e-v--t-g.m"),
    ],
)
def test_names_are_taken_literally(source, event, service, method, name):
    queue = event_queue(source, event, service=service, method=method)
    assert queue.name == name
    assert queue.bindings[0].routing_key == event
    assert queue.bindings[0].exchange.name == f"{source}.events"


def test_an_event_exchange_can_be_declared_as_old_nameko_did():
    assert event_exchange("s", auto_delete=True) == Exchange("s.events", "topic", durable=True, auto_delete=True)


def test_a_queue_can_be_bound_to_a_given_exchange():
    old = event_exchange("s", auto_delete=True)
    assert event_queue("s", "e", service="t", method="m", exchange=old).bindings[0].exchange is old


def test_the_rpc_exchange_can_have_another_name():
    other = rpc_exchange("other-rpc")
    assert rpc_queue("s", other).bindings == (Binding(Exchange("other-rpc"), "s.*"),)
    assert reply_queue("s", "key", other).bindings == (Binding(Exchange("other-rpc"), "key"),)


@pytest.mark.parametrize("reliable", [True, False])
@pytest.mark.parametrize("identifier", [None, ""])
def test_a_broadcast_needs_an_identifier(reliable, identifier):
    with pytest.raises(ValueError, match=r"t\.m for s/e needs a broadcast_identifier"):
        event_queue(
            "s",
            "e",
            service="t",
            method="m",
            handler_type=BROADCAST,
            reliable=reliable,
            broadcast_identifier=identifier,
        )


def test_an_unknown_handler_type_is_refused():
    with pytest.raises(ValueError, match="got 'pool'"):
        event_queue("s", "e", service="t", method="m", handler_type="pool")


@pytest.mark.parametrize("declared", [RAW, *QUEUES], ids=lambda each: each.name)
def test_declarations_are_plain_data(declared):
    assert pickle.loads(pickle.dumps(declared)) == declared
    assert len({declared, pickle.loads(pickle.dumps(declared))}) == 1


def test_arguments_make_a_difference():
    assert Queue("q", arguments={"x-expires": 1}) != Queue("q")
