"""The service: reserves articles when it is called and packs what has been ordered, with the models of the project."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()  # before anything imports models

from django.db import close_old_connections, transaction  # noqa: E402
from django.db.models import F  # noqa: E402
from orders.errors import OutOfStock  # noqa: E402
from orders.models import Article, Order  # noqa: E402

from micro_framework.amqp.entrypoints import EventListener, RPCListener  # noqa: E402
from micro_framework.dependencies import Dependency, Logger  # noqa: E402


class Transaction(Dependency[None]):
    """Each call in a transaction: committed if it succeeds, rolled back if it raises; lost connections are replaced."""

    def get_dependency(self, worker):
        close_old_connections()
        transaction.set_autocommit(False)

    def after_call(self, worker, result, exc):
        if exc is None:
            transaction.commit()
        else:
            transaction.rollback()
        transaction.set_autocommit(True)
        close_old_connections()


class Warehouse:
    name = "warehouse"

    transaction = Transaction()
    log = Logger()

    @RPCListener(expected_exceptions=OutOfStock)
    def reserve(self, article):
        """Take one from the shelf; its price."""
        if not Article.objects.filter(name=article, left__gt=0).update(left=F("left") - 1):
            raise OutOfStock(f"no {article} left")
        return Article.objects.get(name=article).price

    @EventListener("shop", "order_placed")
    def pack(self, payload):
        Order.objects.filter(pk=payload["order"]).update(packed=True)
        self.log.info("order %s is packed", payload["order"])
