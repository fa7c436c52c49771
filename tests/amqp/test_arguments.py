"""Values of another kind than expected, named."""

from micro_framework.amqp.arguments import kind_problems


def test_each_value_of_another_kind_is_a_problem() -> None:
    found = kind_problems("Producer", "True or False", bool, confirm_publish="yes", mandatory=True, other=1)
    assert found == [
        "Producer: confirm_publish must be True or False, not 'yes'",
        "Producer: other must be True or False, not 1",
    ]


def test_none_may_be_among_the_kinds() -> None:
    assert kind_problems("Producer", "a string or None", str | None, service_name=None) == []
