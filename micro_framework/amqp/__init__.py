"""AMQP extensions: entrypoints and dependencies with Nameko's conventions, on whatever broker is behind the port."""

__all__: list[str] = []
