import inspect
from importlib import import_module

import pytest

from micro_framework.migration.arguments import Given, planned
from micro_framework.migration.names import FORMS

EVENT = FORMS["nameko.events.event_handler"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_keyword_is_one_of_the_native_class(form):
    parameters = inspect.signature(getattr(import_module(form.module), form.name)).parameters
    assert {*form.parameters.values(), *form.keywords.values()} <= parameters.keys()
    assert list(form.parameters.values())[: form.positional] == list(parameters)[: form.positional]


def test_an_argument_that_stands_elsewhere_here_gets_its_keyword():
    assert planned(EVENT, [Given()] * 5).kept[-1] == (4, "requeue_on_error")


def test_what_is_lost_is_said():
    plan = planned(EVENT, [Given(), Given(), Given("expected_exceptions")])
    assert [place for place, _ in plan.kept] == [0, 1]
    assert "logged as errors" in plan.notes[0]


@pytest.mark.parametrize("given", [Given(star="*"), Given(star="**"), Given("prefetch_count")])
def test_what_has_no_place_keeps_the_declaration_as_it_is(given):
    assert planned(EVENT, [given]).blocked
