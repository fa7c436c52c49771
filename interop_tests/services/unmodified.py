"""Services written for Nameko and nothing else: real Nameko hosts them, and so does ``run --nameko``."""

import eventlet

eventlet.monkey_patch()

from eventlet.event import Event  # noqa: E402
from eventlet.queue import Queue  # noqa: E402
from nameko.dependency_providers import Config  # noqa: E402
from nameko.events import EventDispatcher, event_handler  # noqa: E402
from nameko.exceptions import UnknownService  # noqa: E402
from nameko.extensions import DependencyProvider, Entrypoint  # noqa: E402
from nameko.rpc import RpcProxy, rpc  # noqa: E402

SEEN = {"front": [], "back": []}


class Ctx(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx


class Polled(Entrypoint):
    """A third-party entrypoint: fires what is put into its queue."""

    items = Queue()

    def start(self):
        self.stopping = Event()
        self.container.spawn_managed_thread(self.run)

    def stop(self):
        self.items.put(None)
        self.stopping.wait()

    def run(self):
        while True:
            item = self.items.get()
            if item is None:
                break
            self.container.spawn_worker(self, (item,), {}, handle_result=self.handle_result)
        self.stopping.send(True)

    def handle_result(self, worker_ctx, result, exc_info):
        SEEN["front"].append(["handled", result])
        return result, exc_info


polled = Polled.decorator


class Front:
    name = "front"
    back = RpcProxy("back")
    nobody = RpcProxy("nobody")
    dispatch = EventDispatcher()
    config = Config()
    ctx = Ctx()

    @rpc
    def order(self, number):
        price = self.back.price(number)
        self.dispatch("ordered", {"number": number})
        return {"price": price, "currency": self.config.get("CURRENCY")}

    @rpc
    def several(self, numbers):
        pool = eventlet.GreenPool(3)
        return list(pool.imap(self.back.price, numbers))

    @rpc
    def hurry(self):
        try:
            with eventlet.Timeout(0.1):
                eventlet.sleep(30)
        except eventlet.Timeout:
            return "timed out"

    @rpc
    def fail(self, number):
        try:
            self.back.price(number)
        except Exception as exc:
            return [type(exc).__name__, str(exc)]

    @rpc
    def call_nobody(self):
        try:
            self.nobody.anything()
        except UnknownService as exc:
            return str(exc)

    @rpc
    def poll(self, item):
        Polled.items.put(item)

    @polled
    def from_queue(self, item):
        return item * 2

    @event_handler("back", "priced")
    def priced(self, payload):
        SEEN["front"].append([payload["number"], self.ctx.data.get("user"), len(self.ctx.call_id_stack)])

    @rpc
    def seen(self):
        return SEEN["front"]


class Back:
    name = "back"
    dispatch = EventDispatcher()

    @rpc
    def price(self, number):
        if number < 0:
            raise ValueError("no such number")
        self.dispatch("priced", {"number": number})
        return number * 2

    @event_handler("front", "ordered")
    def ordered(self, payload):
        SEEN["back"].append(payload["number"])

    @rpc
    def seen(self):
        return SEEN["back"]
