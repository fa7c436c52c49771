"""Nameko's clients for code outside a service."""

__all__: list[str] = []
