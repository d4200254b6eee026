"""The reference platform's payments: what it opens, charges once, gives back, lists and complains of (T10)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.messages import Refusal, from_payload, to_payload
from runtime.messages.payment import (
    CardCharge,
    DayList,
    DayOrder,
    DayRequest,
    PaymentOpening,
    PaymentQuery,
    PaymentReversal,
    PaymentStanding,
    PinKeyIssue,
    PinKeyRequest,
)
from runtime.services.receipts import new_receipt
from sim.devices import pinblock
from sim.devices.bankcard import NUMBER
from sim.devices.pinpad import MASTER_KEYS
from sim.platform.bank import PIN
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.services.matters import Matters
from sim.platform.services.payment import QR_SECONDS, Payments
from sim.platform.store import Store
from tests.runtime.matters_rig import BARE, PAID, WITHDRAWN
from tests.sim.platform_client import CITIZEN, IDENTITY, PEOPLE, SEAL, SIGNING, STRANGER, Clock, Terminal, asserted

FEE, DAY = 8000, "2027-01-15"
HERE, THERE = "GT-0001", "GT-0002"


class Counter:
    """Two terminals' payments, and what the platform and its bank say."""

    def __init__(self, platform: Platform, clock: Clock) -> None:
        self.platform, self.clock = platform, clock
        self.payments = next(one for one in platform.services.all if isinstance(one, Payments))
        self.matters = next(one for one in platform.services.all if isinstance(one, Matters))
        self.faults = platform.faults
        self.assertions = {terminal: asserted(platform, terminal) for terminal in (HERE, THERE)}

    def ask(self, message: msgspec.Struct, kind: type = PaymentStanding, terminal: str = HERE) -> Any:
        return from_payload(self.platform.services.serve(terminal, to_payload(message)), kind, Refusal)

    def opening(self, method: str = "unionpay_qr", terminal: str = HERE, **changes: Any) -> PaymentOpening:
        purpose = new_receipt("application")
        assertion = self.assertions[terminal]
        whole = PaymentOpening(new_receipt("payment"), method, FEE, purpose, PAID, assertion)
        return msgspec.structs.replace(whole, **changes)

    def open(self, method: str = "unionpay_qr", terminal: str = HERE, **changes: Any) -> str:
        standing = self.ask(self.opening(method, terminal, **changes), terminal=terminal)
        assert isinstance(standing, PaymentStanding), standing
        assert (standing.state, standing.amount_fen, standing.code) == ("open", FEE, None)
        return standing.order

    def card(self, order: str, pin: str = PIN, number: str = NUMBER, **changes: Any) -> CardCharge:
        """A charge as a terminal sends it whose pad was given a key for it."""
        issue = self.ask(PinKeyRequest("pad", "sm4"), PinKeyIssue)
        key = pinblock.decrypt("sm4", MASTER_KEYS["sm4"], issue.wrapped)
        assert issue.check_value == pinblock.check_value("sm4", key)
        track2 = bytes.fromhex(f"{number}D30122000000000000")
        whole = CardCharge(order, track2, b"\x4f\x01\xa0", pinblock.pin_block("sm4", key, pin, number[-13:-1]))
        return msgspec.structs.replace(whole, **changes)

    def state(self, order: str) -> str:
        return self.ask(PaymentQuery(order)).state

    def ledger(self) -> tuple[int, int]:
        """What was charged and given back, in fen."""
        totals = self.payments.totals()
        return totals["charged_fen"], totals["reversed_fen"]

    def complaints(self) -> set[str]:
        return {name for name in self.platform.store.counters() if name.startswith("complaint")}

    def pushed(self, terminal: str = HERE) -> int:
        """How many commands tell a terminal that an order came to an end."""
        return sum(command.schema == "payment.result" for command in self.platform.store.commands(terminal))


@pytest.fixture
def counter() -> Iterator[Counter]:
    store, clock = Store(":memory:"), Clock()
    keys = PlatformKeys(SIGNING, SEAL, {HERE: IDENTITY.public, THERE: STRANGER.public})
    yield Counter(Platform(store, keys, PEOPLE, Path("font.ttc"), clock), clock)
    store.close()


@pytest.mark.parametrize("method", ["unionpay_qr", "ecny_qr"])
def test_a_code_is_paid_once_and_its_terminal_is_told(counter: Counter, method: str) -> None:
    order = counter.open(method)
    shown = counter.ask(PaymentQuery(order))
    assert shown.qr.startswith(f"https://qr.platform.example/{method.removesuffix('_qr')}/")
    assert counter.payments.pay_code(order) == "paid"
    assert counter.ask(PaymentQuery(order)) == msgspec.structs.replace(shown, state="paid", qr=None)
    assert (counter.pushed(HERE), counter.pushed(THERE)) == (1, 0)
    with pytest.raises(ValueError, match="no open order"):
        counter.payments.pay_code(order)
    assert counter.ledger() == (FEE, 0)
    assert counter.complaints() == set()


def test_a_card_is_charged_once_however_often_it_is_asked_for(counter: Counter) -> None:
    order = counter.open("unionpay_card")
    charge = counter.card(order)
    assert [counter.ask(charge).state for _ in range(2)] == ["paid", "paid"]
    assert counter.ask(counter.card(order, number="6222020000000007")).state == "paid"
    assert counter.ledger() == (FEE, 0)


def test_a_stripe_is_read_too(counter: Counter) -> None:
    order = counter.open("unionpay_card")
    charge = counter.card(order, track2=f"{NUMBER}=30122000000000000".encode(), emv=b"")
    assert counter.ask(charge).state == "paid"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"pin": "654321"}, "payment.wrong_pin"),
        ({"pin_block": bytes(16)}, "payment.wrong_pin"),
        ({"track2": b"\x00"}, "payment.bad_card_data"),
        ({"track2": b"6222021234567890=3012", "emv": b""}, "payment.bad_card_data"),
    ],
)
def test_a_card_that_cannot_be_charged_leaves_the_order_open(counter: Counter, changes: Any, code: str) -> None:
    order = counter.open("unionpay_card")
    refused = counter.ask(counter.card(order, **changes))
    assert (refused.state, refused.code) == ("open", code)
    assert counter.ledger() == (0, 0)
    assert counter.ask(counter.card(order)).state == "paid"
    assert counter.complaints() == set()


def test_a_terminal_without_a_pin_key_charges_no_card(counter: Counter) -> None:
    order = counter.open("unionpay_card")
    charge = CardCharge(order, f"{NUMBER}=3012".encode(), b"", bytes(16))
    assert counter.ask(charge).code == "payment.pin_key_unknown"


def test_three_wrong_pins_in_a_row_block_the_card(counter: Counter) -> None:
    order = counter.open("unionpay_card")
    codes = [counter.ask(counter.card(order, pin="000000")).code for _ in range(2)]
    codes += [counter.ask(counter.card(order, pin=pin)).code for pin in ("000000", PIN)]
    assert codes == ["payment.wrong_pin"] * 3 + ["payment.pin_tries"]
    assert counter.ask(counter.card(order, number="6222020000000007")).state == "paid"


@pytest.mark.parametrize(
    ("account", "code"),
    [({"balance_fen": FEE - 1}, "payment.insufficient_funds"), ({"blocked": True}, "payment.card_refused")],
)
def test_the_bank_refuses_an_account(counter: Counter, account: Any, code: str) -> None:
    counter.payments.bank_account(NUMBER, **account)
    order = counter.open("unionpay_card")
    assert counter.ask(counter.card(order)).code == code
    assert counter.ledger() == (0, 0)


@pytest.mark.parametrize(
    ("changes", "code", "is_complaint"),
    [
        ({"assertion": b"forged"}, "assertion.invalid", False),
        ({"amount_fen": FEE - 1}, "fee.changed", False),
        ({"amount_fen": 0, "matter": BARE}, "fee.changed", False),
        ({"matter": "no_such_matter"}, "matter.withdrawn", False),
        ({"order": "P-0000-0000-0"}, "payment.invalid", True),
        ({"order": new_receipt("application")}, "payment.invalid", True),
        ({"purpose": new_receipt("hotline")}, "payment.invalid", True),
    ],
)
def test_an_order_that_is_not_opened(counter: Counter, changes: Any, code: str, is_complaint: bool) -> None:
    opening = counter.opening(**changes)
    assert counter.ask(opening) == Refusal(code, retry=False)
    assert (f"complaint {code}" in counter.complaints()) is is_complaint
    assert counter.payments.orders.find(opening.order) is None


def test_another_terminals_assertion_opens_nothing(counter: Counter) -> None:
    """I4."""
    opening = counter.opening(assertion=counter.assertions[THERE])
    assert isinstance(counter.ask(opening), Refusal)


def test_a_new_quarter_changes_fees_and_withdraws_matters(counter: Counter) -> None:
    """T17: by the catalogue in force, whatever the terminal still has."""
    counter.matters.publish()
    assert counter.ask(counter.opening()) == Refusal("fee.changed", retry=False)
    assert counter.ask(counter.opening(matter=WITHDRAWN)) == Refusal("matter.withdrawn", retry=False)


def test_a_receipt_is_paid_for_once(counter: Counter) -> None:
    opening = counter.opening()
    first = counter.open(order=opening.order, purpose=opening.purpose)
    assert counter.ask(opening) == Refusal("payment.order_used", retry=False)
    again = counter.opening(purpose=opening.purpose)
    assert counter.ask(again) == Refusal("payment.already_paid", retry=False), "the first one may be paid any moment"
    counter.payments.pay_code(first)
    assert counter.ask(again) == Refusal("payment.already_paid", retry=False)
    counter.ask(PaymentReversal(first))
    assert counter.ask(again).state == "open"
    assert counter.complaints() == {"complaint payment.order_used", "complaint payment.already_paid"}


def test_a_reversal_gives_back_once_what_was_paid_and_closes_what_was_not(counter: Counter) -> None:
    """It can be said again, under another key."""
    paid, unpaid = counter.open("unionpay_card"), counter.open()
    counter.ask(counter.card(paid))
    for _ in range(2):
        assert counter.ask(PaymentReversal(paid)).state == "reversed"
        assert counter.ask(PaymentReversal(unpaid)).state == "refused"
    assert counter.ledger() == (FEE, FEE)
    assert counter.ask(counter.card(paid)).state == "reversed", "it is not charged again"
    with pytest.raises(ValueError, match="no open order"):
        counter.payments.pay_code(unpaid)
    assert counter.ledger() == (FEE, FEE)


def test_what_was_spent_on_a_filing_is_spent_once_and_does_not_go_back(counter: Counter) -> None:
    opening = counter.opening()
    order = counter.open(order=opening.order, purpose=opening.purpose)
    assert not counter.payments.spend(order, opening.purpose, FEE), "it is not paid"
    counter.payments.pay_code(order)
    other = new_receipt("application")
    assert not counter.payments.spend(order, other, FEE)
    assert not counter.payments.spend(order, opening.purpose, FEE + 1)
    assert not counter.payments.spend(new_receipt("payment"), opening.purpose, FEE)
    assert counter.payments.spend(order, opening.purpose, FEE)
    assert not counter.payments.spend(order, opening.purpose, FEE)
    assert counter.ask(PaymentReversal(order)) == Refusal("payment.used", retry=False)
    assert counter.ledger() == (FEE, 0)
    assert counter.complaints() == {"complaint payment.used"}


def test_a_code_expires(counter: Counter) -> None:
    order = counter.open()
    counter.clock.now += QR_SECONDS
    with pytest.raises(ValueError, match="no open order"):
        counter.payments.pay_code(order)
    assert counter.state(order) == "expired"
    assert counter.ask(PaymentReversal(order)).state == "expired"


def test_another_terminals_order_is_nobodys(counter: Counter) -> None:
    order = counter.open("unionpay_card", THERE)
    unknown = Refusal("payment.unknown_order", retry=False)
    assert [counter.ask(message) for message in (PaymentQuery(order), PaymentReversal(order))] == [unknown] * 2
    assert counter.ask(counter.card(order)) == unknown
    assert counter.complaints() == {"complaint payment.unknown_order"}
    assert counter.ask(DayRequest(DAY), DayList).orders == ()


def test_an_order_nobody_opened_is_unknown_without_a_complaint(counter: Counter) -> None:
    """A terminal that lost its line asks so."""
    order = new_receipt("payment")
    for message in (PaymentQuery(order), PaymentReversal(order), counter.card(order)):
        assert counter.ask(message) == Refusal("payment.unknown_order", retry=False)
    assert counter.complaints() == set()


def test_a_card_charges_no_code(counter: Counter) -> None:
    order = counter.open()
    assert counter.ask(counter.card(order)) == Refusal("payment.wrong_method", retry=False)
    assert counter.complaints() == {"complaint payment.wrong_method"}


def test_a_day_lists_the_terminals_orders_that_did_not_stay_open(counter: Counter) -> None:
    orders = [counter.open() for _ in range(4)]
    counter.payments.pay_code(orders[0])
    counter.payments.pay_code(orders[1])
    counter.ask(PaymentReversal(orders[1]))
    counter.ask(PaymentReversal(orders[2]))
    listed = counter.ask(DayRequest(DAY), DayList)
    states = ("paid", "reversed", "refused")
    expected = [DayOrder(order, "unionpay_qr", FEE, state) for order, state in zip(orders, states, strict=False)]
    assert listed == DayList(DAY, tuple(expected))
    assert counter.ask(DayRequest("2027-01-14"), DayList).orders == ()


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_late_bank_charges_what_was_closed(counter: Counter, is_reversed: bool) -> None:
    """The worst a bank does: `not charged` first, and charged after all; the terminal is told, and gives it back."""
    order = counter.open()
    counter.faults.hold_charges("late")
    assert counter.payments.pay_code(order) == "open"
    if is_reversed:
        assert counter.ask(PaymentReversal(order)).state == "refused"
    assert (counter.pushed(), counter.ledger()) == (0, (0, 0))
    assert counter.payments.bank_says() == 1
    assert (counter.pushed(), counter.ledger()) == (1, (FEE, 0))
    assert counter.state(order) == "paid"
    assert counter.ask(PaymentReversal(order)).state == "reversed"
    assert (counter.payments.bank_says(), counter.ledger()) == (0, (FEE, FEE))


def test_a_slow_bank_is_waited_for_and_what_was_given_up_goes_back_by_itself(counter: Counter) -> None:
    order = counter.open("unionpay_card")
    counter.faults.hold_charges("slow")
    assert counter.ask(counter.card(order)).state == "open"
    assert counter.ask(counter.card(order)).state == "open", "one charge is under way, not two"
    assert counter.ask(PaymentReversal(order)).state == "open"
    assert counter.payments.bank_says() == 1
    assert (counter.state(order), counter.ledger()) == ("reversed", (FEE, FEE))


def test_a_bank_that_refuses_by_order_of_the_rig(counter: Counter) -> None:
    order = counter.open("unionpay_card")
    counter.faults.refuse_charges("payment.insufficient_funds")
    assert counter.ask(counter.card(order)).code == "payment.insufficient_funds"
    counter.faults.mend()
    assert counter.ask(counter.card(order)).state == "paid"


def test_a_wrong_amount_is_charged_and_given_back_whole(counter: Counter) -> None:
    order = counter.open()
    counter.faults.wrong_amount()
    counter.payments.pay_code(order)
    assert counter.ask(PaymentQuery(order)).amount_fen == FEE + 1
    counter.ask(PaymentReversal(order))
    assert counter.ledger() == (FEE + 1, FEE + 1)


def test_a_charge_that_is_answered_twice_was_done_once(counter: Counter) -> None:
    """T10: under one key the platform acts once; the copies of the call and of the answer change nothing."""
    terminal = Terminal(counter.platform)
    terminal.obtain_keys()
    charge = to_payload(counter.card(counter.open("unionpay_card")))
    counter.faults.double_answer()
    answers = terminal.ask(bytes(16), charge) + terminal.ask(bytes(16), charge)
    assert len(answers) == 4
    assert {answer.body for answer in answers} == {answers[0].body}
    assert counter.ledger() == (FEE, 0)


def test_away_after_the_charge(counter: Counter) -> None:
    """An outage at the worst moment: charged, and nobody says so."""
    terminal = Terminal(counter.platform)
    terminal.obtain_keys()
    order = counter.open("unionpay_card")
    charge = to_payload(counter.card(order))
    counter.faults.cut_after_charge()
    assert terminal.ask(bytes(16), charge) == []
    assert counter.ledger() == (FEE, 0)
    counter.faults.mend()
    assert terminal.settle(bytes(16), bytes(15) + b"\1") == b"acted"
    assert counter.state(order) == "paid"


def test_the_citizen_finds_their_payments_among_their_receipts(counter: Counter) -> None:
    """T11."""
    order = counter.open()
    counter.payments.pay_code(order)
    (mine,) = counter.payments.standings(CITIZEN)
    assert (mine.receipt, mine.kind, mine.state, mine.title) == (order, "payment", "paid", "缴费 80.00 元")
    assert counter.payments.standings(PEOPLE.citizen(1)) == []
    counter.ask(PaymentReversal(order))
    assert counter.payments.standing(order).state == "reversed"
    assert counter.payments.standing(new_receipt("payment")) is None
