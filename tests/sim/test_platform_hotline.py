"""The reference platform's hotline: what it takes, complains of, tells to whom, and the verbs of the rig (H1 to H4)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from runtime.messages import Refusal, from_payload, to_payload
from runtime.messages.applications import Progress, ProgressQuery, ReceiptVoid, Scan
from runtime.messages.hotline import (
    ATTACHMENTS,
    RATING_CHARACTERS,
    TEXT_CHARACTERS,
    HotlineQuery,
    HotlineRating,
    HotlineRequest,
    HotlineStanding,
)
from runtime.services.receipts import new_receipt, read_receipt
from sim.people import DISTRICTS
from sim.platform.hotline import DAY, IllegalMove, Source
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.store import Store
from tests.sim.platform_client import CITIZEN, IDENTITY, NOW, PEOPLE, SEAL, SIGNING, STRANGER, Clock, Terminal, asserted
from transport.sm import sm3

PDF = b"%PDF-1.7\nscan"
SCAN = Scan("attachment_1", PDF, sm3(PDF))
NEXT = PEOPLE.citizen(1)


class Desk:
    """A terminal that registers, and what the platform says."""

    def __init__(self, platform: Platform, clock: Clock) -> None:
        self.platform, self.clock = platform, clock
        self.verbs = platform.verbs
        self.assertion = asserted(platform)
        self.other = asserted(platform, name=NEXT.name, id_number=NEXT.id_number)

    def ask(self, message: msgspec.Struct, kind: type = HotlineStanding) -> Any:
        return from_payload(self.platform.services.serve("GT-0001", to_payload(message)), kind, Refusal)

    def request(self, **changes: Any) -> HotlineRequest:
        whole = HotlineRequest(
            receipt=new_receipt("hotline"),
            category="complaint",
            text="路灯不亮已有一周。",
            district=DISTRICTS[0],
            scans=(SCAN,),
            assertion=self.assertion,
            telephone="13900000001",
        )
        return msgspec.structs.replace(whole, **changes)

    def registered(self, **changes: Any) -> str:
        standing = self.ask(self.request(**changes))
        assert isinstance(standing, HotlineStanding), standing
        return standing.receipt

    def complaints(self) -> dict[str, int]:
        counters = self.platform.store.counters()
        return {name: count for name, count in counters.items() if name.startswith("complaint")}


@pytest.fixture
def desk() -> Iterator[Desk]:
    store, clock = Store(":memory:"), Clock()
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public, "GT-0002": STRANGER.public})
    yield Desk(Platform(store, keys, PEOPLE, Path("font.ttc"), clock), clock)
    store.close()


def test_a_request_is_taken_and_every_later_state_is_told(desk: Desk) -> None:
    request = desk.request()
    standing = desk.ask(request)
    assert (standing.stage, standing.due_unix, standing.overdue) == ("registered", int(NOW) + 5 * DAY, False)
    scans = desk.platform.store.database.execute("SELECT name, digest, bytes FROM order_scans").fetchall()
    assert scans == [("attachment_1", sm3(PDF), len(PDF))]
    seen = []
    for stage in ("transcribed", "reviewed", "routed", "assigned", "handling", "verified", "answered", "archived"):
        desk.verbs["hotline_until"](request.receipt, stage)
        told = desk.ask(HotlineQuery(request.receipt, desk.assertion))
        seen.append(told.stage)
        assert (told.reply is not None) == (stage in ("answered", "archived"))
        assert told.may_be_rated == (stage == "answered")
        assert told.steps[-1].stage == stage
    assert seen[-1] == "archived"
    assert desk.complaints() == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"receipt": "H-0000-0000-1"}, "hotline.invalid"),
        ({"receipt": new_receipt("application")}, "hotline.invalid"),
        ({"text": " "}, "hotline.invalid"),
        ({"text": "长" * (TEXT_CHARACTERS + 1)}, "hotline.invalid"),
        ({"district": "火星区"}, "hotline.unknown_district"),
        ({"assertion": None}, "hotline.invalid"),
        ({"scans": (SCAN, SCAN)}, "hotline.invalid"),
        ({"scans": (Scan("attachment_1", PDF, bytes(32)),)}, "hotline.invalid"),
        ({"scans": (Scan("attachment_1", b"GIF", sm3(b"GIF")),)}, "hotline.invalid"),
        ({"scans": tuple(Scan(str(i), PDF, sm3(PDF)) for i in range(ATTACHMENTS + 1))}, "hotline.invalid"),
    ],
)
def test_what_a_terminal_should_never_send_is_complained_of(desk: Desk, changes: dict[str, Any], code: str) -> None:
    """An anonymous request with a telephone number too: it would identify."""
    assert desk.ask(desk.request(**changes)) == Refusal(code, retry=False)
    assert desk.complaints() == {f"complaint {code}": 1}
    assert desk.platform.store.database.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_no_citizen_without_an_assertion_that_counts(desk: Desk) -> None:
    """I4: forged, of another terminal, expired; for a request, a question and a rating."""
    foreign = asserted(desk.platform, "GT-0002")
    receipt = desk.registered()
    for wrong in (b"forged", foreign):
        for message in (
            desk.request(assertion=wrong),
            HotlineQuery(receipt, wrong),
            HotlineRating(receipt, "neutral", "", wrong),
        ):
            assert desk.ask(message) == Refusal("assertion.invalid", retry=False)
    desk.clock.now += 901
    assert desk.ask(desk.request()) == Refusal("assertion.expired", retry=True)


def test_a_receipt_is_taken_once(desk: Desk) -> None:
    receipt = desk.registered()
    assert desk.ask(desk.request(receipt=receipt, text="另有一事。")) == Refusal("hotline.duplicate", retry=False)


def test_a_number_says_little_and_its_citizen_hears_all(desk: Desk) -> None:
    """H2."""
    receipt = desk.registered()
    desk.verbs["hotline_until"](receipt)
    for assertion in (None, desk.other):
        told = desk.ask(HotlineQuery(receipt, assertion))
        assert (told.is_bare, told.reply, told.may_be_rated, told.stage) == (True, None, False, "answered")
        assert {step.text for step in told.steps} == {""}
        rating = HotlineRating(receipt, "satisfied", "", assertion)
        assert desk.ask(rating) == Refusal("hotline.not_yours", retry=False)
    whole = desk.ask(HotlineQuery(receipt, desk.assertion))
    assert (whole.is_bare, whole.may_be_rated) == (False, True)
    assert whole.reply
    assert "" not in {step.text for step in whole.steps}


def test_who_is_anonymous_needs_the_number_alone(desk: Desk) -> None:
    """H1: nothing at the platform says who it was."""
    receipt = desk.registered(assertion=None, telephone=None)
    row = desk.platform.store.database.execute("SELECT id_number, telephone FROM order_contents").fetchone()
    assert row == (None, None)
    desk.verbs["hotline_until"](receipt)
    assert desk.ask(HotlineQuery(receipt)).reply
    rated = desk.ask(HotlineRating(receipt, "unsatisfied", "没有修好"))
    assert (rated.stage, rated.is_bare) == ("assigned", False)
    mine = desk.ask(ProgressQuery(None, desk.assertion), Progress)
    assert mine.receipts == ()


def test_a_rating_counts_once_and_only_after_the_reply(desk: Desk) -> None:
    """H3."""
    receipt = desk.registered()
    rating = HotlineRating(receipt, "unsatisfied", "没有修好", desk.assertion)
    assert desk.ask(rating) == Refusal("hotline.not_rateable", retry=False)
    desk.verbs["hotline_until"](receipt)
    assert desk.ask(rating).stage == "assigned"
    assert desk.ask(rating).stage == "assigned"
    other = msgspec.structs.replace(rating, verdict="satisfied")
    assert desk.ask(other) == Refusal("hotline.not_rateable", retry=False)
    desk.verbs["hotline_until"](receipt)
    long = msgspec.structs.replace(other, text="长" * (RATING_CHARACTERS + 1))
    assert desk.ask(long) == Refusal("hotline.invalid", retry=False)
    assert desk.ask(other).stage == "followed_up"
    ratings = desk.platform.store.database.execute("SELECT round, verdict FROM order_ratings").fetchall()
    assert ratings == [(1, "unsatisfied"), (2, "satisfied")]
    assert desk.ask(msgspec.structs.replace(other, receipt=new_receipt("hotline"))).code == "receipt.unknown"


def test_progress_knows_hotline_receipts(desk: Desk) -> None:
    """T11: by number and by citizen, in the words of the kiosk's receipts."""
    receipt = desk.registered()
    states = []
    for stage in ("registered", "assigned", "verified", "answered", "archived"):
        desk.verbs["hotline_until"](receipt, stage)
        (one,) = desk.ask(ProgressQuery(receipt), Progress).receipts
        assert (one.kind, one.title, one.text) == ("hotline", "政务热线：投诉", "")
        states.append(one.state)
    assert states == ["registered", "assigned", "handling", "answered", "closed"]
    (mine,) = desk.ask(ProgressQuery(None, desk.assertion), Progress).receipts
    assert "感谢" in mine.text


def test_a_number_that_never_came_whole_is_not_filed(desk: Desk) -> None:
    """Rule 2: by the terminal's record."""
    terminal = Terminal(desk.platform)
    terminal.obtain_keys()
    receipt = new_receipt("hotline")
    assert desk.ask(HotlineQuery(receipt)) == Refusal("receipt.unknown", retry=False)
    terminal.record(1, body=to_payload(ReceiptVoid(receipt, "hotline", NOW)).body, schema="receipt.void")
    assert desk.ask(HotlineQuery(receipt)) == Refusal("receipt.not_filed", retry=False)


def test_requests_come_in_from_everywhere(desk: Desk) -> None:
    """H1: the provincial platform, calls, windows and streets; what is left out is made up from the seed."""
    for source in get_args(Source):
        receipt = desk.verbs["hotline_intake"](source=source, citizen=0)
        assert read_receipt(receipt) == receipt
        desk.verbs["hotline_until"](receipt, "archived")
    report = desk.verbs["hotline_report"]()
    assert report["by_source"] == dict.fromkeys(get_args(Source), 1)
    assert (report["orders"], report["archived"]) == (5, 5)
    assert len(desk.ask(ProgressQuery(None, asserted(desk.platform)), Progress).receipts) == 5
    consultation = desk.verbs["hotline_intake"](category="consultation")
    assert consultation in desk.verbs["hotline_report"]()["consultation"]
    for wrong in ({"source": "rumour"}, {"category": "murder"}, {"district": "火星区"}, {"citizen": 400}):
        with pytest.raises(ValueError, match=r"no such|citizen"):
            desk.verbs["hotline_intake"](**wrong)


def test_a_person_may_hasten_an_order_and_does_nothing_illegal(desk: Desk) -> None:
    receipt = desk.registered()
    for action, stage in (("transcribe", "transcribed"), ("review", "reviewed"), ("route", "routed")):
        assert desk.verbs["hotline_act"](receipt, action) == stage
    for action in ("transcribe", "verify", "warn", "archive"):
        with pytest.raises(IllegalMove, match=f"no {action} in routed"):
            desk.verbs["hotline_act"](receipt, action)
    with pytest.raises(ValueError, match="no action reopen"):
        desk.verbs["hotline_act"](receipt, "reopen")
    with pytest.raises(ValueError, match="no order"):
        desk.verbs["hotline_order"]("H-0")
    with pytest.raises(ValueError, match="does not come to registered"):
        desk.verbs["hotline_until"](receipt, "registered")
    assert [action for action, _ in desk.verbs["hotline_order"](receipt)["actions"]][-1] == "archive"


def test_the_clock_may_be_put_forward_and_never_back(desk: Desk) -> None:
    receipt = desk.registered()
    assert desk.verbs["hotline_advance"](40 * DAY) == int(NOW) + 40 * DAY
    assert desk.verbs["hotline_order"](receipt)["stage"] == "archived"
    for seconds in (-1, 400 * DAY):
        with pytest.raises(ValueError, match="seconds"):
            desk.verbs["hotline_advance"](seconds)
    assert CITIZEN.id_number not in str(desk.verbs["hotline_order"](receipt))
