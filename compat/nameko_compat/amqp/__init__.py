"""What Nameko has of AMQP in packages of its own; here only what services catch."""

__all__: list[str] = []
