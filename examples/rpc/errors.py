"""What both sides know: an error that arrives as itself. Its name on the wire is ``errors.NoFunds``."""

from micro_framework.rpc import register_exception


@register_exception
class NoFunds(Exception):
    """The customer cannot pay."""
