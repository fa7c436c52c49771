import importlib

import pytest

from micro_framework.migration.names import ABSENT_MODULES, FORMS, MOVED, as_nameko, is_absent, is_third_party
from nameko_compat.absent import absent_module


@pytest.mark.parametrize(("module", "name"), [*((form.module, form.name) for form in FORMS.values()), *MOVED.values()])
def test_what_names_become_is_there(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_names_of_the_compatible_package_are_read_as_namekos():
    assert as_nameko("nameko_compat.rpc") == "nameko.rpc"
    assert as_nameko("nameko_compat") == "nameko"
    assert as_nameko("nameko_compatible") == "nameko_compatible"


def test_other_packages_for_nameko_are_known_by_their_names():
    assert is_third_party("nameko_sqlalchemy.Session")
    assert not is_third_party("nameko_compat.rpc.rpc")


def test_what_has_no_counterpart_says_what_to_do_instead():
    assert "concurrent.futures" in is_absent("nameko.utils.concurrency.fan_out")
    assert is_absent("nameko.utils.sanitize_url") is None


@pytest.mark.parametrize("module", ABSENT_MODULES)
def test_what_has_no_counterpart_is_not_in_the_compatible_package(module):
    below = module.removeprefix("nameko.")
    assert below == "cli" or absent_module(below)  # the package nameko.cli is there, and refuses all its names
