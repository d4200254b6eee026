"""Payments through the whole house on virtual time: a citizen with a card and a telephone, and a second daemon."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from devices.cardreader.protocol import Position
from runtime.messages.payment import Method
from sim.platform.bank import PIN
from sim.platform.services.payment import Payments
from sim.virtual_time import run
from tests.runtime.house import Caller, House, living
from tests.runtime.matters_rig import FORMS, MATERIALS, PAID

FEE = 8000
METHODS: tuple[Method, ...] = ("unionpay_card", "unionpay_qr", "ecny_qr")
LONG = {"idle_seconds": 600.0, "longest_seconds": 7_200.0, "clear_seconds": 5.0}
GATE = {Position.GATE_LOOSE, Position.GATE_HELD}

T = TypeVar("T")


class Counter:
    """A house with a counter for bank cards, and what the citizen does at it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.reader, self.pad = house.outside.cardreader, house.outside.pinpad

    @property
    def bank(self) -> Payments:
        return next(one for one in self.house.platform.services.all if isinstance(one, Payments))

    @property
    def faults(self) -> Any:
        return self.house.platform.faults

    def charged(self) -> int:
        """What citizens are out of pocket: the sum of all charges less what was given back."""
        totals = self.bank.totals()
        return totals["charged_fen"] - totals["reversed_fen"]

    def orders(self) -> list[tuple[str, str]]:
        """State of each order, here and there."""
        rows = self.house.rows("SELECT order_id, state FROM payments ORDER BY opened_at, rowid")
        there = dict(self.house.store.database.execute("SELECT order_id, state FROM payment_orders").fetchall())
        return [(state, there.get(order, "none")) for order, state in rows]

    def intents(self) -> list[tuple[str, str]]:
        """The kind and state of each intent of a payment."""
        return self.house.rows("SELECT kind, state FROM intents WHERE kind IN ('charge', 'reverse') ORDER BY rowid")

    def events(self) -> list[tuple[str, str, str | None]]:
        """Step, outcome and code of every supervision event that arrived."""
        statement = "SELECT event FROM records WHERE schema = 'supervision.event' ORDER BY id"
        told = [json.loads(row[0]) for row in self.house.store.database.execute(statement)]
        return [(one["step"], one["outcome"], one["code"]) for one in told]

    def complaints(self) -> list[str]:
        return [name for name in self.house.store.counters() if name.startswith("complaint")]

    def at_gate(self) -> bool:
        return self.reader.position in GATE

    async def insert(self, **features: Any) -> None:
        """Put a bank card in as soon as the reader lets one in."""
        await self.house.until(lambda: self.reader.entry and self.reader.card is None, seconds=60)
        self.reader.insert_card(**features)

    async def enter(self, pin: str = PIN) -> None:
        """Enter a PIN as soon as the pad asks for it."""
        await self.house.until(lambda: self.pad.keypad_on, seconds=60)
        await asyncio.sleep(0.5)
        for digit in pin:
            self.pad.press(digit)
            self.house.pinpad_port.nudge()
            await asyncio.sleep(0.1)
        self.pad.enter()
        self.house.pinpad_port.nudge()

    async def take(self) -> None:
        """Take the card when it comes out."""
        await self.house.until(self.at_gate, seconds=60)
        self.reader.take_card()

    async def pay_by_card(self, ui: Caller, session: str, order: str, pin: str = PIN, **features: Any) -> Any:
        """Do what a citizen does with a card, and return the answer."""
        asked = ui.ask("payment.card", session=session, order=order)
        hand = asyncio.ensure_future(self._use(pin, features))
        try:
            return await ui.answer(asked)
        finally:
            await self.take() if self.reader.card is not None else None
            hand.cancel()
            await asyncio.gather(hand, return_exceptions=True)

    async def _use(self, pin: str, features: dict[str, Any]) -> None:
        await self.insert(**features)
        await self.enter(pin)

    async def applied(self, ui: Caller) -> tuple[str, str]:
        """A session whose application lacks nothing but its fee, and its receipt number."""
        while (await ui.call("terminal.status"))["state"]["catalogue"]["state"] != "current":
            await ui.notice("events.change")
        session = await self.house.verified(ui)
        begun = await ui.call("application.begin", session=session, matter=PAID)
        assert begun["outcome"] == "done", begun
        await ui.call("application.form", session=session, values=FORMS[PAID])
        for material in MATERIALS[PAID]:
            await ui.call("session.begin_document", session=session)
            await ui.call("session.add_page", session=session)
            await ui.call("session.finish_document", session=session)
            taken = await ui.call("application.material", session=session, material=material)
            assert taken["outcome"] == "done", taken
        return session, begun["receipt"]

    async def begun(self, ui: Caller, session: str, receipt: str, method: str, amount_fen: int = FEE) -> Any:
        params = {"session": session, "method": method, "amount_fen": amount_fen, "purpose": receipt}
        return await ui.answer(ui.ask("payment.begin", **params))

    async def pay(
        self,
        ui: Caller,
        session: str,
        receipt: str,
        method: str,
        *,
        opened: Callable[[], None] = lambda: None,
        amount_fen: int = FEE,
    ) -> dict[str, Any]:
        """Pay as a patient citizen with a good UI does, and return the last answer; `opened` is told in between."""
        answer = await self.begun(ui, session, receipt, method, amount_fen)
        if answer["outcome"] != "done":
            return answer
        order = answer["order"]
        opened()
        if method == "unionpay_card":
            answer = await self.pay_by_card(ui, session, order)
        else:
            waiting = ui.ask("payment.await", session=session, order=order, seconds=10)
            await asyncio.sleep(3)
            self.scan(order)
            answer = await ui.answer(waiting)
        while answer["code"] == "payment.awaiting":
            answer = await self.awaited(ui, session, order)
        return answer

    async def awaited(self, ui: Caller, session: str, order: str, seconds: float = 10) -> dict[str, Any]:
        return await ui.answer(ui.ask("payment.await", session=session, order=order, seconds=seconds), seconds=90)

    def scan(self, order: str) -> None:
        """Pay the code of an order by telephone; an outage is the platform's, not the telephone's."""
        self.bank.pay_code(order)

    async def settled(self) -> None:
        """Wait until no intent of a payment is open and nothing that was paid waits to be used."""
        busy = "SELECT 1 FROM intents WHERE state = 'open' UNION SELECT 1 FROM payments WHERE state IN ('open', 'paid')"
        await self.house.until(lambda: not self.house.rows(busy), seconds=300)
        await asyncio.sleep(2)


def tell(directory: Path, story: Callable[[Counter, Caller], Awaitable[T]], **options: Any) -> T:
    """Run a story at a settled counter on virtual time and return what it returns."""

    async def main() -> T:
        async with living(House(directory, **({"bank": True} | LONG | options))) as house:
            ui = house.caller()
            await house.settled(ui)
            return await story(Counter(house), ui)

    return run(main())


def crashing(
    directory: Path,
    before: Callable[[Counter, Caller], Awaitable[T]],
    after: Callable[[Counter, Caller, T], Awaitable[None]],
) -> None:
    """Run a story until it returns; the daemon is then stopped without clean-up and another one begins on its journal.

    What the first one does after that moment reaches neither the journal, nor the devices, nor the platform.
    """

    async def main() -> None:
        first = House(directory, bank=True, **LONG)
        tasks = [asyncio.create_task(work) for work in (first.serve_platform(), first.daemon())]
        try:
            ui = first.caller()
            await first.settled(ui)
            told = await before(Counter(first), ui)
            content = first.journal.serialize()
            for port in (first.reader_port, first.printer_port, first.cardreader_port, first.pinpad_port):
                port.unplug()
            first.uplink.stop()
            await asyncio.sleep(1)  # what is cut ends before what is cancelled: Python before 3.13 mixes the two up
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            first.journal.close()
        journal = sqlite3.connect(":memory:", isolation_level=None)
        journal.deserialize(content)
        async with living(House(directory, journal=journal, outside=first.outside, bank=True, **LONG)) as second:
            ui = second.caller()
            await second.settled(ui)
            await after(Counter(second), ui, told)

    run(main())


async def begun(counter: Counter, ui: Caller, method: str = METHODS[0]) -> tuple[str, str, str]:
    """Session, receipt and order."""
    session, receipt = await counter.applied(ui)
    answer = await counter.begun(ui, session, receipt, method)
    assert (answer["outcome"], answer["state"], answer["text"]) == ("done", "open", "订单已生成，请支付。")
    return session, receipt, answer["order"]
