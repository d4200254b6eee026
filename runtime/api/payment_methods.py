"""The methods of payments (T10): the citizen's for the role `ui`, the day's for the role `operator`."""

from runtime import texts
from runtime.api.payment_shapes import (
    DayWanted,
    OfPayment,
    OrderNamed,
    PaymentAwaited,
    PaymentWanted,
    PinKeyPressed,
)
from runtime.api.roles import Role
from runtime.api.shapes import Guidance
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.services.payment import Guide, PaymentShown
from runtime.services.payment_days import PaymentDay, PaymentGivenBack
from runtime.services.payment_slip import PaymentSlip
from runtime.services.payment_till import UNSURE_SECONDS
from runtime.session import Session


def _guide(caller: Caller, session: Session) -> Guide:
    def guide(code: str) -> None:
        caller.notify("session.guidance", Guidance(session.id, code, texts.text(code).zh))

    return guide


async def _begin(terminal: Terminal, caller: Caller, params: PaymentWanted) -> PaymentShown:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.payments.begin(session, params.method, params.amount_fen, params.purpose)


async def _card(terminal: Terminal, caller: Caller, params: OfPayment) -> PaymentShown:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.payments.card(
        session,
        params.order,
        _guide(caller, session),
        lambda key: caller.notify("payment.key", PinKeyPressed(session.id, key.value)),
    )


async def _await(terminal: Terminal, caller: Caller, params: PaymentAwaited) -> PaymentShown:
    session = terminal.sessions.find(params.session, caller)
    return await terminal.payments.wait(session, params.order, params.seconds, _guide(caller, session))


async def _cancel(terminal: Terminal, caller: Caller, params: OfPayment) -> PaymentShown:
    return await terminal.payments.cancel(terminal.sessions.find(params.session, caller), params.order)


async def _receipt(terminal: Terminal, caller: Caller, params: OfPayment) -> PaymentSlip:
    return await terminal.slips.print_out(terminal.sessions.find(params.session, caller), params.order)


async def _day(terminal: Terminal, caller: Caller, params: DayWanted) -> PaymentDay:
    return await terminal.payment_days.show(params.day, caller.actor)


async def _reconcile(terminal: Terminal, caller: Caller, params: DayWanted) -> PaymentDay:
    return await terminal.payment_days.reconcile(params.day, caller.actor)


async def _reverse(terminal: Terminal, caller: Caller, params: OrderNamed) -> PaymentGivenBack:
    return await terminal.payment_days.reverse(params.order, caller.actor)


METHODS = (
    Method(
        "payment.begin",
        Role.UI,
        PaymentWanted,
        PaymentShown,
        _begin,
        "Open an order for the fee of the session's application, before it is filed; for a QR order `qr` is what the "
        "citizen scans. One order at a time: another one once it ended or was cancelled. What was paid and is not used "
        "by a filing goes back by itself when the session ends or another application begins.",
    ),
    Method(
        "payment.card",
        Role.UI,
        OfPayment,
        PaymentShown,
        _card,
        "Charge the order to a bank card: `session.guidance` asks for card and PIN and to take the card, `payment.key` "
        "tells each key. A card that is refused leaves the order open: call again, for another try or card. `pending` "
        "means that the bank has not said yet: call payment.await.",
    ),
    Method(
        "payment.await",
        Role.UI,
        PaymentAwaited,
        PaymentShown,
        _await,
        "Wait for the order's end; `pending` with `payment.awaiting` when it takes longer: call again. A QR order not "
        f"paid in its configured time, or a card's charge not answered within {UNSURE_SECONDS:g} s, is given up: "
        "`payment.expired` and `payment.not_charged` mean that nothing is owed, `payment.reversed` that the money went "
        "back, `payment.reversing` that it does so as soon as the bank says whether it was charged.",
    ),
    Method(
        "payment.cancel",
        Role.UI,
        OfPayment,
        PaymentShown,
        _cancel,
        "End the order, open or paid; what was paid goes back. It interrupts a payment.card or payment.await that "
        "waits for the citizen. An order whose fee was used by a filing stays: `payment.used`.",
    ),
    Method(
        "payment.receipt",
        Role.UI,
        OfPayment,
        PaymentSlip,
        _receipt,
        "Print the slip of the order as it stands: paid, given back, or on its way back.",
    ),
    Method(
        "payments.day",
        Role.OPERATOR,
        DayWanted,
        PaymentDay,
        _day,
        "The terminal's orders of a day, and what its last comparison with the platform's list found.",
    ),
    Method(
        "payments.reconcile",
        Role.OPERATOR,
        DayWanted,
        PaymentDay,
        _reconcile,
        "Compare a day with the platform's list now; it is done by itself at the configured hour of the next day. "
        "Differences are records of the platform too. Nothing is moved by it. It is audited.",
    ),
    Method(
        "payments.reverse",
        Role.OPERATOR,
        OrderNamed,
        PaymentGivenBack,
        _reverse,
        "Give back an order that the platform has as paid and the terminal has not, by a person's decision: no "
        "comparison does it by itself. It is audited.",
        ("audit.write_failed",),
        is_sensitive=True,
    ),
)

NOTICES = (Notice("payment.key", PinKeyPressed, "A key of the PIN pad was pressed, during `payment.card`."),)
