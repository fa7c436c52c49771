"""Nameko's Python names on the micro_framework runner, module for module.

The package is the place where ``from nameko_compat.rpc import rpc`` will live, so that a service moves over by
editing its imports. None of its modules is built yet: importing one of them fails with Python's own
``ModuleNotFoundError``. Services of today import from ``micro_framework``.
"""

__all__: list[str] = []
