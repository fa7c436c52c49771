"""The service and the view, each without a broker."""

from unittest.mock import patch

from django.test import TestCase
from warehouse import Warehouse

from micro_framework.testing import worker_for
from orders.errors import OutOfStock
from orders.models import Article, Order


class WarehouseTest(TestCase):
    def setUp(self):
        Article.objects.create(name="tea", price=4, left=1)
        # The transaction of the test case takes the place of the call's.
        self.warehouse = worker_for(Warehouse, transaction=None)

    def test_the_last_one_is_reserved_once(self):
        self.assertEqual(self.warehouse.reserve("tea"), 4)
        with self.assertRaises(OutOfStock):
            self.warehouse.reserve("tea")

    def test_an_order_is_packed(self):
        order = Order.objects.create(article="tea", price=4)
        self.warehouse.pack({"order": order.pk})
        self.assertTrue(Order.objects.get().packed)


@patch("orders.views.dispatch")
@patch("orders.views.rpc")
class PlaceTest(TestCase):
    def place(self):
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post("/orders/", {"article": "tea"})

    def test_an_order_is_stored_and_told(self, rpc, dispatch):
        rpc.warehouse.reserve.return_value = 4
        answer = self.place()
        self.assertEqual(
            answer.json(), {"number": Order.objects.get().pk, "article": "tea", "price": 4, "packed": False}
        )
        dispatch.assert_called_once_with("order_placed", {"order": answer.json()["number"]})

    def test_what_is_not_there_is_not_ordered(self, rpc, dispatch):
        rpc.warehouse.reserve.side_effect = OutOfStock("no tea left")
        self.assertEqual(self.place().status_code, 409)
        self.assertFalse(Order.objects.exists())
        dispatch.assert_not_called()
