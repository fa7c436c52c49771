"""RabbitMQ through py-amqp, made for threads."""

from micro_framework.brokers.rabbitmq.broker import RabbitMQBroker

__all__ = ["RabbitMQBroker"]
