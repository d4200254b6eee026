"""What citizens do at a terminal: they come for something, hesitate, change their mind, walk away, forget cards."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

from sim.caller import CallRefused
from sim.citizens.plan import Visit
from sim.citizens.visits import CERTIFICATES, FORMS, FREE, PAID
from sim.simulate.hands import Hands
from sim.simulate.outside import Surroundings
from sim.simulate.people import Person
from sim.simulate.screen import Screen

TRIES = 3
"""How often somebody tries again what may work the next time."""
OPEN_SECONDS = 150.0
"""How long somebody waits for the terminal to take them."""
LEAVES, FORGETS, CRASHES = 0.25, 0.15, 0.2
_RETRIED = {"session.busy", "session.not_clear"}


class NotServed(Exception):
    """Somebody did not get what they came for; `code` says why, `left` that it was their own will."""

    def __init__(self, code: str, *, left: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.left = left


class Stage(Protocol):
    """Where a citizen is: the screen, the devices, somebody who notes what they are told."""

    around: Surroundings

    @property
    def screen(self) -> Screen:
        """The screen as it is now; raises ConnectionError while there is none."""

    def scan_shows(self, pdf: bytes) -> None:
        """Let this lie before the document camera."""

    def companion(self, person: Person) -> Person:
        """Return somebody who takes a citizen's place at the terminal, in the same session."""

    def told(self, person: Person, method: str, result: dict[str, Any]) -> None:
        """Take note of a call's result."""

    def refused(self, person: Person, method: str, code: str) -> None:
        """Take note of a call's error."""

    def order(self, verb: str, **args: Any) -> Any:
        """Have the platform do something; raise ValueError when it cannot."""


class Visitor:
    """One citizen at the terminal. `patient` ones neither walk away nor forget anything."""

    def __init__(self, stage: Stage, person: Person, visit: Visit, chance: random.Random, *, patient: bool) -> None:
        self.person = person
        self._stage = stage
        self._visit = visit
        self._chance = chance
        self._session = ""
        self._steps_left = 99 if patient or chance.random() > LEAVES else chance.randrange(1, 14)
        forgets = not patient and chance.random() < FORGETS
        self._patient = patient
        self.hands = Hands(stage.around, person, chance, patient=patient, forgets=forgets)

    async def come(self) -> None:
        """Come, be verified, get what they came for, go; raise NotServed."""
        self._session = await self._open()
        try:
            if self._chance.random() < 0.2:
                await self._pry()
            await self._be_verified()
            await _WHAT[self._visit](self)
            await self.ask("session.close")
        except NotServed as not_served:
            await self._leave(crashes=not_served.left and self._chance.random() < CRASHES)
            raise
        except (ConnectionError, CallRefused) as error:
            raise NotServed("screen.lost" if isinstance(error, ConnectionError) else error.code) from None

    async def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Call a method of the session and return its result; raise NotServed when it comes to nothing."""
        for tries_left in reversed(range(TRIES)):
            await self._hesitate()
            result = await self._call(method, session=self._session, **params)
            if result.get("outcome") != "refused":
                return result
            if not (result["retry"] and tries_left):
                break
        raise NotServed(f"{method}: {result['code']}")

    async def _call(self, method: str, /, **params: Any) -> dict[str, Any]:
        try:
            result = await self._stage.screen.call(method, **params)
        except CallRefused as refused:
            self._stage.refused(self.person, method, refused.code)
            raise NotServed(f"{method}: {refused.code}") from None
        except ConnectionError:
            self._stage.refused(self.person, method, "screen.lost")
            raise NotServed("screen.lost") from None
        self._stage.told(self.person, method, result)
        return result

    async def _hesitate(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.2, 3.0))
        self._steps_left -= 1
        if self._steps_left <= 0:
            raise NotServed("walked away", left=True)

    async def _open(self) -> str:
        until = asyncio.get_running_loop().time() + OPEN_SECONDS
        while True:
            try:
                session: str = (await self._call("session.open"))["session"]
            except NotServed as not_served:
                code = not_served.code.removeprefix("session.open: ")
                if asyncio.get_running_loop().time() >= until or code not in {*_RETRIED, "screen.lost"}:
                    raise
                self.hands.take_everything()
                await asyncio.sleep(2.0)
                continue
            return session

    async def _leave(self, *, crashes: bool) -> None:
        """Go without having been served: properly, or just so, or with the screen's program dying."""
        with suppress(ConnectionError, CallRefused, NotServed):
            if crashes:
                self._stage.screen.hang_up()
            elif self._patient or self._chance.random() < 0.5:
                await self._call("session.close", session=self._session)

    async def _be_verified(self) -> None:
        await self.ask("session.consent", agreed=True, version="1")
        self.hands.offer_card(self.person)
        try:
            await self.ask("session.verify_identity")
        finally:
            self.hands.lift_card()

    async def _give_way(self) -> None:
        """Let somebody else take the place in the same session: what is held is not theirs."""
        self.person = self._stage.companion(self.person)
        await self._be_verified()

    async def _pry(self) -> None:
        """Try what only somebody who is verified may: nothing of anybody's is to be had."""
        for method in ("progress.mine", "application.check", "application.file"):
            with suppress(NotServed):
                result = await self._call(method, session=self._session)
                if result.get("outcome") == "done":
                    self._stage.refused(self.person, method, "was served without being verified")

    async def _certificate(self) -> None:
        printed = await self.ask("session.request_certificate", certificate=self._chance.choice(CERTIFICATES))
        if printed["receipt"] is not None and self._chance.random() < 0.4:
            await self.ask("session.reprint_certificate", receipt=printed["receipt"])

    async def _application(self) -> None:
        await self._fill_in(self._chance.choice(FREE))
        await self._file()

    async def _fee(self) -> None:
        method = "unionpay_card" if self._visit == "fee_by_card" else self._chance.choice(("unionpay_qr", "ecny_qr"))
        try:
            order = await self._order(method)
        except NotServed as not_served:
            if not_served.code != "payment.begin: fee.changed":
                raise
            order = await self._order(method)
        answer = await (self._pay_by_card(order) if method == "unionpay_card" else self._pay_by_telephone(order))
        for _ in range(TRIES):
            if answer["code"] not in ("payment.awaiting", "payment.reversing"):
                break
            answer = await self.ask("payment.await", order=order, seconds=30)
        if answer["outcome"] != "done":
            raise NotServed(f"payment: {answer['code']}")
        if not self._patient and self._chance.random() < 0.15:
            await self.ask("payment.cancel", order=order)
            raise NotServed("changed their mind", left=True)
        if self._chance.random() < 0.7:
            await self.ask("payment.receipt", order=order)
        await self._file()

    async def _order(self, method: str) -> str:
        begun = await self._fill_in(PAID)
        opening = {"method": method, "amount_fen": begun["matter"]["fee_fen"], "purpose": begun["receipt"]}
        order: str = (await self.ask("payment.begin", **opening))["order"]
        return order

    async def _pay_by_card(self, order: str) -> dict[str, Any]:
        return await self.ask("payment.card", order=order)

    async def _pay_by_telephone(self, order: str) -> dict[str, Any]:
        does = "pays" if self._patient else self._chance.choice(("pays", "pays", "pays", "cancels", "late", "nothing"))
        if does == "nothing":
            return await self.ask("payment.await", order=order, seconds=30)
        waiting = asyncio.ensure_future(self.ask("payment.await", order=order, seconds=30))
        await asyncio.sleep(self._chance.uniform(1.0, 12.0))
        if does == "pays":
            self._scan_code(order)
        else:
            with suppress(NotServed):
                await self._call("payment.cancel", session=self._session, order=order)
            if does == "late":
                self._scan_code(order)
        return await waiting

    def _scan_code(self, order: str) -> None:
        with suppress(ValueError):
            self._stage.order("pay_code", order=order)

    async def _fill_in(self, matter: str) -> dict[str, Any]:
        """Complete an application and return what it began with."""
        begun = await self.ask("application.begin", matter=matter)
        if not self._patient and self._chance.random() < 0.1:
            begun = await self.ask("application.begin", matter=matter)
        await self.ask("application.form", values=self._form(matter, begun["matter"]["form"]))
        for material in begun["matter"]["materials"]:
            if material["required"]:
                await self._scan()
                await self.ask("application.material", material=material["id"])
        return begun

    def _form(self, matter: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a form filled in with what is this citizen's own; of a question that is new the first answer."""
        own = {
            "permit_number": self.person.citizen.id_number,
            "address": self.person.citizen.address,
            "telephone": self.person.telephone,
            "hardship": f"家庭成员患病，{self.person.words}。",
        }
        new = {
            field: schema["properties"][field]["enum"][0] for field in schema["required"] if field not in FORMS[matter]
        }
        return {field: own.get(field, value) for field, value in FORMS[matter].items()} | new

    async def _scan(self) -> None:
        self._stage.scan_shows(self.person.pdf)
        await self.ask("session.begin_document")
        await self.ask("session.add_page")
        await self.ask("session.finish_document")

    async def _file(self) -> None:
        if not self._patient and self._chance.random() < 0.15:
            await self._give_way()
        await self.ask("application.check")
        filed = await self.ask("application.file")
        if filed["receipt"] is not None and self._chance.random() < 0.5:
            await self.ask("progress.mine")

    async def _progress(self) -> None:
        await self.ask("progress.mine")

    async def _hotline(self) -> None:
        is_anonymous = self._chance.random() < 0.5
        begun = await self.ask("hotline.begin")
        if not is_anonymous:
            await self._scan()
            await self.ask("hotline.attach", attachment=1)
        await self.ask(
            "hotline.register",
            category="complaint",
            text=f"路灯不亮已有一周，{self.person.words}。",
            district="样本区",
            anonymous=is_anonymous,
            telephone=None if is_anonymous else self.person.telephone,
            scans=[] if is_anonymous else [1],
        )
        await self.ask("hotline.standing", receipt=begun["receipt"])

    async def _sharing(self) -> None:
        public = {"resource": "open_government", "purpose": "public_display"}
        await self._hesitate()
        await self._call("sharing.query", **public, parameters={"words": "居住证"})
        await self._call("sharing.dataset", **public, most=5)
        await self.ask("sharing.call", resource="household_check", purpose="application")
        await self.ask("sharing.query", resource="social_insurance", purpose="application")


_WHAT: dict[Visit, Callable[[Visitor], Awaitable[None]]] = {
    "certificate": Visitor._certificate,  # noqa: SLF001 - the table of this class
    "application": Visitor._application,  # noqa: SLF001
    "fee_by_card": Visitor._fee,  # noqa: SLF001
    "fee_by_qr": Visitor._fee,  # noqa: SLF001
    "progress": Visitor._progress,  # noqa: SLF001
    "hotline": Visitor._hotline,  # noqa: SLF001
    "sharing": Visitor._sharing,  # noqa: SLF001
}
