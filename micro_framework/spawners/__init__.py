"""Spawners: the pools that calls run in, one module per kind of worker."""

__all__: list[str] = []
