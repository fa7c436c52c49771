"""A pytest plugin under which tests of Nameko services run as they are: ``pytest -p nameko_compat.testing.unmodified``.

``import nameko`` and ``import eventlet`` mean this package from then on. Where real Nameko is installed beside it, its
own plugin is left out: under the hook it would be this package's a second time.
"""

import pytest

from nameko_compat.hook import install

__all__ = ["pytest_addoption", "pytest_plugins"]

install()

pytest_plugins = ["nameko_compat.testing.pytest"]


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Keep Nameko's plugin out; called before pytest loads what installed packages bring."""
    pluginmanager.set_blocked("pytest_nameko")
