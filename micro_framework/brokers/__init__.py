"""Brokers: one port, two implementations that pass the same contract tests.

``port`` says what the rest of the framework may ask of a broker, ``rabbitmq`` asks a real RabbitMQ for it, ``memory``
answers it inside the process for first steps and tests.
"""

__all__: list[str] = []
