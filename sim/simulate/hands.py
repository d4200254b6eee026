"""A citizen's hands at the devices: the ID card, the bank card, the PIN; quick or slow, and perhaps forgetful."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sim.platform.bank import PIN
from sim.simulate.outside import Surroundings
from sim.simulate.people import Person

LOOK_SECONDS = 0.25
HAND_SECONDS = 20.0


class Hands:
    """What a citizen does at the devices of a terminal; one who `forgets` leaves cards where they are."""

    def __init__(
        self, around: Surroundings, person: Person, chance: random.Random, *, patient: bool, forgets: bool
    ) -> None:
        self._around = around
        self._person = person
        self._chance = chance
        self._patient = patient
        self._forgets = forgets
        self._card_of = person
        self._doing: set[asyncio.Task[None]] = set()
        self._laying: asyncio.TimerHandle | None = None
        self._is_asked_again = False

    def go(self) -> None:
        """Turn away from the terminal."""
        for task in self._doing:
            task.cancel()
        if not self._forgets:
            self.take_everything()

    def take_everything(self) -> None:
        """Take what is theirs."""
        self._around.reader.remove_card()
        if self._around.holds_out_card:
            self._around.cardreader.take_card()

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Hear a notification, and do what it asks for."""
        if method != "session.guidance":
            return
        if params["code"] == "idcard.place_card" and self._laying is not None:
            if self._is_asked_again:
                self._lay_card()
            self._is_asked_again = True
        doing = {
            "payment.insert_card": self._insert_card,
            "payment.enter_pin": self._enter_pin,
            "payment.take_card": self._take_card,
        }.get(params["code"])
        if doing is not None:
            hand = asyncio.create_task(doing(), name="citizen's hand")
            self._doing.add(hand)
            hand.add_done_callback(self._doing.discard)

    def offer_card(self, person: Person) -> None:
        """Lay an ID card down soon; when the screen asks for it again, lift it and lay it down anew."""
        self._card_of, self._is_asked_again = person, False
        self._lay_card()

    def _lay_card(self) -> None:
        if self._laying is not None:
            self._laying.cancel()
        if self._is_asked_again:
            self._around.reader.remove_card()
        soon = self._chance.uniform(0.2, 4.0)
        self._laying = asyncio.get_running_loop().call_later(soon, self._around.lay_card, self._card_of.citizen)

    def lift_card(self) -> None:
        """Take the ID card away, unless it is forgotten."""
        if self._laying is not None:
            self._laying.cancel()
            self._laying = None
        if not self._forgets:
            self._around.reader.remove_card()

    async def _insert_card(self) -> None:
        await self._soon(lambda: self._around.cardreader.insert_card(number=self._person.bank_card))
        self._around.ports["cardreader"].nudge()

    async def _enter_pin(self) -> None:
        pad, port = self._around.pinpad, self._around.ports["pinpad"]

        def type_it() -> None:
            if not pad.keypad_on:
                raise ValueError("the pad takes no digits")

        await self._soon(type_it)
        await asyncio.sleep(0.5)
        digits = PIN if self._patient or self._chance.random() < 0.9 else "654321"
        for digit in digits:
            pad.press(digit)
            port.nudge()
            await asyncio.sleep(0.15)
        pad.enter() if self._patient or self._chance.random() < 0.95 else pad.cancel()
        port.nudge()

    async def _take_card(self) -> None:
        if not self._forgets:
            await self._soon(self._around.cardreader.take_card)

    async def _soon(self, do: Callable[[], None]) -> None:
        """Do something by hand as soon as it can be done, unless that takes too long."""
        await asyncio.sleep(self._chance.uniform(0.3, 2.0))
        until = asyncio.get_running_loop().time() + HAND_SECONDS
        while asyncio.get_running_loop().time() < until:
            with suppress(ValueError):
                do()
                return
            await asyncio.sleep(LOOK_SECONDS)
