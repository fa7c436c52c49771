"""Copies as the supervisor's port tells of them. Whole copies are scraped in tests/test_observed.py."""

from micro_framework.metrics.tallies import Tallies
from micro_framework.observe.health import Health
from micro_framework.observe.watched import SLOWEST_ROUND, CopiesView


def told(view, copy, health):
    view.heard(copy, Tallies().snapshot().plain(), health.plain())


def test_it_is_ready_once_every_copy_is():
    view = CopiesView(2)
    assert (view.health().stage, view.health().ready) == ("starting", False)
    told(view, "copy-1 (pid 1)", Health("running"))
    told(view, "copy-2 (pid 2)", Health("starting"))
    assert view.health().missing == ["1 of 2 copies are ready"]
    told(view, "copy-2 (pid 2)", Health("running"))
    assert view.health().ready
    view.gone("copy-1 (pid 1)")
    health = view.health()
    assert (health.alive, health.ready, health.stage) == (True, False, "running")
    view.stopping()
    assert view.health().stage == "stopping"


def test_a_copy_that_is_not_alive_is_told_of():
    view = CopiesView(1)
    told(view, "copy-1 (pid 1)", Health("running", dead=["the clock does not turn any more"]))
    assert view.health().dead == ["copy-1 (pid 1): the clock does not turn any more"]


def test_a_supervisor_that_hangs_is_not_alive():
    view = CopiesView(1)
    view.looked_around -= SLOWEST_ROUND + 1
    assert not view.health().alive
    view.turned()
    assert view.health().alive
