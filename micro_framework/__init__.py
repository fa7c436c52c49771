"""micro_framework: class-based services on RabbitMQ, wire-compatible with Nameko.

Importing the package loads nothing else; import what you use from its module::

    from micro_framework.amqp.entrypoints import EventListener
    from micro_framework.runner import Runner
"""

__all__ = ["__version__"]

__version__ = "3.0.0.dev0"
