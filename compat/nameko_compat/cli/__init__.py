"""``micro-framework run --nameko``: unmodified Nameko services by the command line."""

from nameko_compat.absent import refusing

__all__: list[str] = []

__getattr__ = refusing(__name__)
