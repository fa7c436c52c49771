"""What a value of the configuration may be."""

import math

import pytest

from micro_framework.config import kinds
from micro_framework.config.kinds import UnfitError

FIT = [
    (kinds.whole(1, 10), 3, 3),
    (kinds.whole(1, 10), 3.0, 3),
    (kinds.whole(0), 10**400, 10**400),
    (kinds.seconds(), 0.5, 0.5),
    (kinds.seconds(zero=True), 0, 0),
    (kinds.seconds(endless=True), math.inf, math.inf),
    (kinds.flag, False, False),
    (kinds.choice("a", "b"), "b", "b"),
    (kinds.names, ("a", "b"), ("a", "b")),
    (kinds.names, ["a"], ("a",)),
    (kinds.dotted_path, "a.b.c", "a.b.c"),
    (kinds.name, "x" * 255, "x" * 255),
    (kinds.ssl, True, True),
    (kinds.ssl, {"ca_certs": "x"}, {"ca_certs": "x"}),
    (kinds.ssl, {"cert_reqs": 2, "server_hostname": None}, {"cert_reqs": 2, "server_hostname": None}),
    (kinds.uri, "memory://", "memory://"),
    (kinds.logging, {}, {"version": 1, "disable_existing_loggers": False}),
    (
        kinds.logging,
        {"disable_existing_loggers": True},
        {"version": 1, "disable_existing_loggers": True},
    ),
]

UNFIT = [
    (kinds.whole(1, 10), 0),
    (kinds.whole(1, 10), 11),
    (kinds.whole(1, 10), True),
    (kinds.whole(1, 10), 1.5),
    (kinds.whole(1, 10), "3"),
    (kinds.whole(1), math.inf),
    (kinds.whole(1), math.nan),
    (kinds.seconds(), 0),
    (kinds.seconds(), -1),
    (kinds.seconds(), math.inf),
    (kinds.seconds(), math.nan),
    (kinds.seconds(), 1e300),
    (kinds.seconds(), 10**400),
    (kinds.seconds(), "1"),
    (kinds.seconds(), True),
    (kinds.flag, 1),
    (kinds.flag, "false"),
    (kinds.choice("a", "b"), "c"),
    (kinds.choice("a", "b"), ["a"]),
    (kinds.text, ""),
    (kinds.text, 1),
    (kinds.names, "json"),
    (kinds.names, []),
    (kinds.names, [1]),
    (kinds.dotted_path, "function"),
    (kinds.dotted_path, "a..b"),
    (kinds.name, "\u00e9" * 128),
    (kinds.free_mapping, []),
    (kinds.free_mapping, {1: 2}),
    (kinds.ssl, "yes"),
    (kinds.ssl, {"ca_cert": "x"}),
    (kinds.ssl, {"cert_reqs": "CERT_REQUIRED"}),
    (kinds.logging, "INFO"),
    (kinds.uri, "redis://h"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), FIT)
def test_a_fitting_value_is_read(kind, value, expected):
    assert kind.read(value) == expected
    assert type(kind.read(value)) is type(expected)


@pytest.mark.parametrize(("kind", "value"), UNFIT)
def test_an_unfit_value_is_refused(kind, value):
    with pytest.raises(UnfitError):
        kind.read(value)
