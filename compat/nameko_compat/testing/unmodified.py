"""A pytest plugin under which tests of Nameko services run as they are: ``pytest -p nameko_compat.testing.unmodified``.

``import nameko`` and ``import eventlet`` mean this package from then on. Where real Nameko is installed beside it, add
``-p no:pytest_nameko``: its plugin would be this package's a second time.
"""

from nameko_compat.hook import install

__all__ = ["pytest_plugins"]

install()

pytest_plugins = ["nameko_compat.testing.pytest"]
