"""The government hotline: takes requests, runs each order's life, says how it stands, takes ratings (H1 to H4)."""

import random
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import msgspec
import structlog

from runtime.messages.applications import ReceiptStanding
from runtime.messages.certificate import Refusal
from runtime.messages.hotline import (
    ATTACHMENTS,
    RATING_CHARACTERS,
    TEXT_CHARACTERS,
    Category,
    HotlineQuery,
    HotlineRating,
    HotlineRequest,
    HotlineStanding,
    OrderStage,
)
from runtime.services.receipts import new_receipt, read_receipt
from sim.people import DISTRICTS, Citizen
from sim.platform.hotline import DAY, DAYS, MADE_UP, REGISTERED, STATES, TITLES, Action, Order, Source, plan
from sim.platform.orders import Content, Orders
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.identity import Identity
from sim.wire import Verbs
from transport.sm import sm3

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hotline:
    """The hotline service."""

    desk: Desk
    identity: Identity
    orders: Orders = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", Orders(self.desk.database, self.desk.people.seed))

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {HotlineRequest: self._register, HotlineQuery: self._tell, HotlineRating: self._rate}

    @property
    def verbs(self) -> Verbs:
        """What the rig's control socket may order."""
        return {
            "hotline_intake": self.intake,
            "hotline_advance": self.advance,
            "hotline_until": self.until,
            "hotline_act": self.act,
            "hotline_order": self.order,
            "hotline_report": self.report,
        }

    def intake(
        self,
        source: Source = "call",
        category: Category | None = None,
        district: str | None = None,
        text: str | None = None,
        citizen: int | None = None,
    ) -> str:
        """Take a request that came another way and return its receipt number; what is left out is made up.

        Raises ValueError for a source, category, district or citizen there is not.
        """
        number = self.orders.next_number()
        luck = random.Random(f"intake {self.desk.people.seed} {number}")
        chosen = category or luck.choice(tuple(TITLES))
        where = district or luck.choice(DISTRICTS)
        if source not in REGISTERED or chosen not in TITLES or where not in DISTRICTS:
            raise ValueError("no such source, category or district")
        id_number = None if citizen is None else self.desk.people.citizen(citizen).id_number
        order = self._new(new_receipt("hotline"), source, chosen, where)
        self.orders.register(order, Content(text or luck.choice(MADE_UP), None, id_number), REGISTERED[source])
        self.desk.store.commit()
        return order.receipt

    def advance(self, seconds: int) -> int:
        """Put the hotline's clock forward and do what is due; return its time."""
        if not 0 <= seconds <= 366 * DAY:
            raise ValueError("seconds: 0 to a year")
        self.orders.advance(seconds)
        now = self._tick()
        self.desk.store.commit()
        return now

    def until(self, receipt: str, stage: OrderStage = "answered") -> int:
        """Put the hotline's clock forward until an order is in a stage; return its time.

        Raises ValueError without such an order, or when it does not come to that stage any more.
        """
        now = self._tick()
        while (found := self.orders.find(receipt)) is None or found.stage != stage:
            planned = None if found is None else plan(found, self.desk.people.seed)
            if planned is None:
                message = f"order {receipt} does not come to {stage}"
                raise ValueError(message)
            self.orders.advance(planned[1] - now)
            now = self._tick()
        self.desk.store.commit()
        return now

    def act(self, receipt: str, action: Action) -> str:
        """Do a step of an order's life now, by hand, and return its stage; raise IllegalMove where it does not fit."""
        now = self._tick()
        found = self.orders.find(receipt)
        if found is None or action not in get_args(Action) or action == "reopen":
            message = f"no order {receipt}, or no action {action}"
            raise ValueError(message)
        stage = self.orders.act(found, action, now).stage
        self.desk.store.commit()
        return stage

    def order(self, receipt: str) -> dict[str, Any]:
        """Return an order with everything that was done with it; raise ValueError without one."""
        self._tick()
        found = self.orders.find(receipt)
        if found is None:
            message = f"no order {receipt}"
            raise ValueError(message)
        return {**asdict(found), "actions": self.orders.actions(receipt)}

    def report(self) -> dict[str, Any]:
        """Return the monthly report's lists: consultations, doubtful cases and satisfied ones; and counts."""
        now = self._tick()
        every = list(self.orders.every())
        self.desk.store.commit()
        return {
            "at": now,
            "orders": len(every),
            "archived": sum(one.stage == "archived" for one in every),
            "overdue": sum(one.is_overdue(now) for one in every),
            "supervised": sum(one.escalation >= 2 for one in every),
            "by_source": {source: sum(one.source == source for one in every) for source in REGISTERED},
            "consultation": [one.receipt for one in every if one.category == "consultation"],
            "doubtful": [one.receipt for one in every if one.is_doubtful],
            "satisfied": [one.receipt for one in every if one.verdict == "satisfied"],
        }

    def standing(self, receipt: str) -> ReceiptStanding | None:
        """Return where a request stands, as a receipt."""
        self._tick()
        order = self.orders.find(receipt)
        if order is None:
            return None
        last = self.orders.steps(receipt)[-1]
        title = f"政务热线：{TITLES[order.category]}"
        return ReceiptStanding(receipt, "hotline", STATES[order.stage], title, order.reply or last.text, last.at)

    def standings(self, citizen: Citizen) -> list[ReceiptStanding]:
        """Return where every request of a citizen stands; anonymous ones are nobody's."""
        found = (self.standing(receipt) for receipt in self.orders.of_citizen(citizen.id_number))
        return [one for one in found if one is not None]

    def _register(self, terminal: str, request: HotlineRequest) -> HotlineStanding | Refusal:
        citizen = None if request.assertion is None else self.identity.citizen(terminal, request.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        self._tick()
        if (code := self._fault(request)) is not None:
            log.warning("platform_complains", code=code, terminal=terminal)
            self.desk.store.count(f"complaint {code}")
            return Refusal(code, retry=False)
        order = self._new(request.receipt, "terminal", request.category, request.district)
        id_number = None if citizen is None else citizen.id_number
        content = Content(request.text, terminal, id_number, request.telephone)
        self.orders.register(order, content, REGISTERED["terminal"])
        self.orders.attach(order.receipt, {scan.material: (scan.digest, len(scan.pdf)) for scan in request.scans})
        log.info("platform_took_hotline_request", terminal=terminal, category=order.category, scans=len(request.scans))
        standing = self._said(order, is_bare=False)
        return msgspec.structs.replace(standing, receipt=self.desk.faults.receipt(order.receipt))

    def _fault(self, request: HotlineRequest) -> str | None:
        """Return why a request is not taken; a terminal should never have sent it."""
        if self.orders.find(request.receipt) is not None:
            return "hotline.duplicate"
        if request.district not in DISTRICTS:
            return "hotline.unknown_district"
        names = {scan.material for scan in request.scans}
        is_right = (
            read_receipt(request.receipt) == request.receipt
            and request.receipt.startswith("H")
            and (request.assertion is not None or request.telephone is None)
            and 0 < len(request.text.strip()) <= len(request.text) <= TEXT_CHARACTERS
            and len(names) == len(request.scans) <= ATTACHMENTS
            and all(sm3(one.pdf) == one.digest and one.pdf.startswith(b"%PDF-") for one in request.scans)
        )
        return None if is_right else "hotline.invalid"

    def _tell(self, terminal: str, query: HotlineQuery) -> HotlineStanding | Refusal:
        citizen = None if query.assertion is None else self.identity.citizen(terminal, query.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        self._tick()
        order = self.orders.find(query.receipt)
        if order is None:
            return Refusal("receipt.not_filed" if self._is_void(query.receipt) else "receipt.unknown", retry=False)
        return self._said(order, is_bare=not self._is_whose(order, citizen))

    def _rate(self, terminal: str, rating: HotlineRating) -> HotlineStanding | Refusal:
        """Take a rating once; the same one again is told how it stands, and changes nothing."""
        citizen = None if rating.assertion is None else self.identity.citizen(terminal, rating.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        now = self._tick()
        order = self.orders.find(rating.receipt)
        if order is None:
            return Refusal("receipt.unknown", retry=False)
        is_whose = self._is_whose(order, citizen)
        if not is_whose or len(rating.text) > RATING_CHARACTERS:
            code = "hotline.invalid" if is_whose else "hotline.not_yours"
            self.desk.store.count(f"complaint {code}")
            return Refusal(code, retry=False)
        if order.stage != "answered":
            is_again = self.orders.last_rating(order.receipt) == (rating.verdict, rating.text)
            return self._said(order, is_bare=False) if is_again else Refusal("hotline.not_rateable", retry=False)
        rated = self.orders.rate(order, rating.verdict, rating.text, now)
        log.info("platform_took_hotline_rating", terminal=terminal, verdict=rating.verdict, stage=rated.stage)
        return self._said(rated, is_bare=False)

    def _tick(self) -> int:
        """Do what is due and return the hotline's time."""
        now = self.desk.now() + self.orders.ahead
        self.orders.tick(now)
        return now

    def _new(self, receipt: str, source: Source, category: Category, district: str) -> Order:
        now = self._tick()
        return Order(
            number=self.orders.next_number(),
            receipt=receipt,
            source=source,
            category=category,
            district=district,
            registered_at=now,
            due_at=now + DAYS[category] * DAY,
            entered_at=now,
        )

    def _is_whose(self, order: Order, citizen: Citizen | None) -> bool:
        """Whether all may be told: an anonymous order to whoever has the number, another to its citizen."""
        owner = self.orders.content(order.receipt).id_number
        return owner is None or (citizen is not None and citizen.id_number == owner)

    def _is_void(self, receipt: str) -> bool:
        """Whether a terminal told that nothing of this number ever left it whole."""
        statement = (
            "SELECT 1 FROM records WHERE schema = 'receipt.void' AND json_extract(event, '$.receipt') = ? LIMIT 1"
        )
        return self.desk.database.execute(statement, (receipt,)).fetchone() is not None

    def _said(self, order: Order, *, is_bare: bool) -> HotlineStanding:
        steps = self.orders.steps(order.receipt)
        now = self.desk.now() + self.orders.ahead
        return HotlineStanding(
            receipt=order.receipt,
            category=order.category,
            stage=order.stage,
            department=order.department,
            steps=tuple(msgspec.structs.replace(one, text="") for one in steps) if is_bare else steps,
            due_unix=order.due_at,
            overdue=order.is_overdue(now),
            reply=None if is_bare else (order.reply or None),
            may_be_rated=order.stage == "answered" and not is_bare,
            is_bare=is_bare,
        )
