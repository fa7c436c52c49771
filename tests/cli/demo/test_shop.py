"""The demo's two services."""

import pytest

from micro_framework.cli.demo import shop
from micro_framework.cli.demo.ledger import Ledger
from micro_framework.cli.demo.shop import CardExpired, TerminalBusy, open_shop, use_card
from micro_framework.exceptions import PublishTimeout
from micro_framework.testing import running, worker_for

DEADLINE = 20.0


def outcome(order, tries):
    try:
        use_card(order, tries)
    except (TerminalBusy, CardExpired) as error:
        return type(error)
    return None


def test_most_cards_work_some_on_a_later_try_and_a_few_never():
    first, last = shop.BUSY_EVERY, shop.EXPIRED_EVERY
    assert [outcome(order, 1) for order in range(1, first)] == [None] * (first - 1)
    assert [outcome(first, tries) for tries in (1, 2, 3)] == [TerminalBusy, TerminalBusy, None]
    assert [outcome(2 * first, tries) for tries in (1, 2)] == [TerminalBusy, None]
    assert {outcome(last, tries) for tries in range(1, shop.RETRIES + 2)} == {CardExpired}


def test_each_run_has_names_of_its_own():
    first, second = (orders.name for orders, _ in (open_shop(Ledger()), open_shop(Ledger())))
    assert first != second
    assert first.startswith("demo-orders-")


def test_orders_are_paid_shipped_retried_and_cancelled(monkeypatch):
    monkeypatch.setattr(shop, "ORDER_INTERVAL", 0.005)
    monkeypatch.setattr(shop, "RETRY_AFTER", 20)
    ledger = Ledger()
    with running(*open_shop(ledger)) as runner:
        runner.observers.append(ledger.observe)
        with ledger.changed:
            ledger.open()
            assert ledger.changed.wait_for(lambda: ledger.orders >= shop.EXPIRED_EVERY, DEADLINE)
            ledger.close()
            orders = ledger.orders
        assert ledger.wait_until_complete(DEADLINE)
    books = ledger.snapshot()
    assert books.sent == books.arrived == books.finished == 2 * orders
    cancelled = orders // shop.EXPIRED_EVERY
    assert books.routes["Orders.place"].ok == orders
    assert books.routes["Orders.cancel"].ok == cancelled
    assert books.routes["Orders.ship"].ok == orders - cancelled
    charges = books.routes["Payments.charge"]
    assert charges.ok == orders - cancelled
    assert charges.given_up == cancelled
    assert charges.retried >= shop.RETRIES * cancelled + orders // shop.BUSY_EVERY - cancelled


def test_a_dispatch_that_fails_is_noted_and_raised():
    def dispatch(event, payload):
        raise PublishTimeout("no answer")

    ledger = Ledger()
    send = shop.Send(dispatch, ledger)
    with pytest.raises(PublishTimeout):
        send("payment_taken", 7, euros=10)
    assert ledger.snapshot().unsure == 1


def test_a_declined_payment_says_why():
    sent = []
    _, payments = open_shop(Ledger())
    worker = worker_for(payments, send=lambda *args, **details: sent.append((args, details)))
    worker.decline({"order": 40}, exception=CardExpired("the card has expired"))
    assert sent == [(("payment_declined", 40), {"reason": "the card has expired"})]
