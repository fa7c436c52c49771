"""Nameko's helpers for tests of services."""

__all__: list[str] = []
