"""Places orders: calls the warehouse, stores the order, and dispatches an event."""

from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from micro_framework.exceptions import RPCTimeout, UnknownService
from orders.broker import dispatch, rpc
from orders.errors import OutOfStock
from orders.models import Order


@require_POST
def place(request):
    article = request.POST["article"]
    try:
        price = rpc.warehouse.reserve(article)  # before the transaction: nothing is locked while it waits
    except OutOfStock as error:
        return JsonResponse({"error": str(error)}, status=409)
    except (RPCTimeout, UnknownService) as error:
        return JsonResponse({"error": str(error)}, status=503)
    with transaction.atomic():
        order = Order.objects.create(article=article, price=price)
        # Not earlier: whoever hears the event must find the order.
        transaction.on_commit(lambda: dispatch("order_placed", {"order": order.pk}))
    return JsonResponse(order.as_json(), status=201)


@require_GET
def show(request, number):
    return JsonResponse(get_object_or_404(Order, pk=number).as_json())
