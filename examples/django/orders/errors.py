"""What the views and the service both know: an error that arrives as itself."""

from micro_framework.rpc import register_exception


@register_exception
class OutOfStock(Exception):
    """There is none left."""
