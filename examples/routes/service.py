import logging
import os

from micro_framework.amqp.dependencies import Producer
from micro_framework.amqp.entrypoints import EventListener
from micro_framework.retry import AsyncBackOff, BackOffData
from micro_framework.routes import CallbackRoute, Route
from micro_framework.runner import Runner

config = {
    "AMQP_URI": os.environ.get("AMQP_URI", "amqp://guest:guest@localhost:5672"),
    "MAX_WORKERS": 3,
    "SERVICE_NAME": "my_service",
    "WORKER_MODE": "thread",
}

routes = [
    CallbackRoute(
        "tasks.test",
        callback_function_path="tasks.test_failure",
        entrypoint=EventListener(source_service="my_exchange", event_name="my_routing_key"),
        dependencies={"producer": Producer(), "retry": BackOffData()},
        backoff=AsyncBackOff(max_retries=5, interval=10000, exception_list=None),
    ),
    Route("tasks.test2", entrypoint=EventListener(source_service="my_service", event_name="event_name")),
]

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Runner(routes, config).start()
