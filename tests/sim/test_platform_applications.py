"""The reference platform's applications: checked again, taken once, decided, told of (T8, T11)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.messages import Refusal, from_payload, to_payload
from runtime.messages.applications import (
    ApplicationFiling,
    Progress,
    ProgressQuery,
    ReceiptStanding,
    ReceiptVoid,
    Scan,
)
from runtime.messages.identity import AssertionIssue, AssertionRequest
from runtime.services.receipts import new_receipt
from sim.people import Citizen
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.services.applications import Applications
from sim.platform.services.matters import Matters
from sim.platform.store import Store
from tests.runtime.matters_rig import BARE, CONSENT, EXAMINED, FORMS, MATERIALS, PAID, PLAIN, WITHDRAWN
from tests.sim.platform_client import CITIZEN, IDENTITY, NOW, PEOPLE, SEAL, SIGNING, STRANGER, Clock, Terminal
from transport.payload import Payload
from transport.sm import sm3

PDF = b"%PDF-1.7\nscan"


class Desk:
    """A terminal that files, and what the platform says."""

    def __init__(self, platform: Platform, clock: Clock) -> None:
        self.platform, self.clock = platform, clock
        self.terminal = Terminal(platform)
        self.terminal.obtain_keys()
        self.sequence = 0
        self.assertion = self.asserted(CITIZEN)

    def ask(self, message: msgspec.Struct, *kinds: type) -> Any:
        self.sequence += 1
        (answer,) = self.terminal.ask(self.sequence.to_bytes(16), to_payload(message))
        return from_payload(Payload(answer.schema, answer.version, True, answer.body), *kinds, Refusal)

    def asserted(self, citizen: Citizen) -> bytes:
        request = AssertionRequest("0123456789abcdef", citizen.name, citizen.id_number, "fingerprint", CONSENT)
        return msgspec.msgpack.encode(self.ask(request, AssertionIssue))

    def filing(self, of: str = PLAIN, /, **changes: Any) -> ApplicationFiling:
        filing = ApplicationFiling(
            receipt=new_receipt("application"),
            assertion=self.assertion,
            catalogue_version=1,
            matter=of,
            matter_version=1,
            form=msgspec.json.encode(FORMS[of]),
            scans=tuple(Scan(name, PDF, sm3(PDF)) for name in MATERIALS[of]),
            fee_fen=8000 if of == PAID else 0,
            payment="order-1" if of == PAID else None,
        )
        return msgspec.structs.replace(filing, **changes)

    def file(self, of: str = PLAIN, /, **changes: Any) -> ReceiptStanding | Refusal:
        return self.ask(self.filing(of, **changes), ReceiptStanding)

    def progress(self, receipt: str | None = None, assertion: bytes | None = None) -> Any:
        answer = self.ask(ProgressQuery(receipt, assertion), Progress)
        return answer.receipts if isinstance(answer, Progress) else answer

    def complaints(self) -> set[str]:
        return {name for name in self.terminal.counters() if name.startswith("complaint")}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    store, clock = Store(":memory:"), Clock()
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public, "GT-0002": STRANGER.public})
    yield Desk(Platform(store, keys, PEOPLE, Path("font.ttc"), clock), clock)
    store.close()


def service(desk: Desk) -> Applications:
    return next(one for one in desk.platform.services.all if isinstance(one, Applications))


@pytest.mark.parametrize(("matter", "state"), [(PLAIN, "accepted"), (BARE, "accepted"), (EXAMINED, "pending")])
def test_an_application_is_taken_and_told_of(desk: Desk, matter: str, state: str) -> None:
    standing = desk.file(matter)
    assert isinstance(standing, ReceiptStanding)
    assert (standing.state, standing.kind, standing.at) == (state, "application", int(NOW))
    (mine,) = desk.progress(None, desk.assertion)
    assert (mine.receipt, mine.state) == (standing.receipt, state)
    assert mine.text
    assert desk.complaints() == set()


def test_a_number_alone_says_title_state_and_time(desk: Desk) -> None:
    """T11: the platform's words are for the verified citizen."""
    receipt = desk.file(EXAMINED).receipt
    (told,) = desk.progress(receipt)
    assert (told.state, told.text) == ("pending", "")
    assert told.title == "最低生活保障申请"
    assert desk.progress(new_receipt("application")) == ()


def test_a_citizen_sees_no_other_citizens_receipts(desk: Desk) -> None:
    desk.file()
    assert desk.progress(None, desk.asserted(PEOPLE.citizen(1))) == ()
    assert desk.progress(None, b"forged") == Refusal("assertion.invalid", retry=False)
    assert desk.progress() == Refusal("assertion.invalid", retry=False)


def test_a_pending_one_is_decided_by_a_person_or_in_time(desk: Desk) -> None:
    first, second = desk.file(EXAMINED).receipt, desk.file(EXAMINED).receipt
    service(desk).decide(first, accept=False, text="材料不符。")
    assert [one.state for one in desk.progress(first)] == ["refused"]
    desk.clock.now += 6 * 86_400
    desk.terminal.obtain_keys(at=desk.clock.now)
    assert [one.state for one in desk.progress(second)] == ["accepted"]
    with pytest.raises(ValueError, match="no pending application"):
        service(desk).decide(first)


@pytest.mark.parametrize(
    ("matter", "changes", "code"),
    [
        (PLAIN, {"receipt": "A-0000-0000-1"}, "application.invalid"),
        (PLAIN, {"receipt": new_receipt("hotline")}, "application.invalid"),
        (PLAIN, {"form": b"{}"}, "application.invalid"),
        (PLAIN, {"form": b"no json"}, "application.invalid"),
        (PLAIN, {"form": b"[]"}, "application.invalid"),
        (PLAIN, {"matter_version": 2}, "application.invalid"),
        (PLAIN, {"matter": "no_such_matter"}, "application.invalid"),
        (PLAIN, {"fee_fen": 1}, "application.invalid"),
        (PLAIN, {"scans": ()}, "application.incomplete"),
        (PLAIN, {"scans": (Scan("id_card", PDF, sm3(PDF)),) * 2}, "application.incomplete"),
        (BARE, {"scans": (Scan("surplus", PDF, sm3(PDF)),)}, "application.incomplete"),
        (WITHDRAWN, {"scans": (Scan("vehicle_licence", PDF, bytes(32)),)}, "application.invalid"),
        (WITHDRAWN, {"scans": (Scan("vehicle_licence", b"GIF", sm3(b"GIF")),)}, "application.invalid"),
        (PAID, {"payment": None}, "fee.unpaid"),
        (PAID, {"payment": "order-2"}, "fee.unpaid"),
    ],
)
def test_what_a_terminal_should_never_send_is_complained_of(desk: Desk, matter: str, changes: dict, code: str) -> None:
    assert desk.file(matter, **changes) == Refusal(code, retry=False)
    assert f"complaint {code}" in desk.complaints()
    assert desk.platform.store.database.execute("SELECT count(*) FROM filings").fetchone() == (0,)


def test_a_receipt_is_taken_once(desk: Desk) -> None:
    receipt = desk.file(EXAMINED).receipt
    assert desk.file(PLAIN, receipt=receipt) == Refusal("application.duplicate", retry=False)
    assert [one.title for one in desk.progress(receipt)] == ["最低生活保障申请"]


def test_no_assertion_no_application(desk: Desk) -> None:
    """I4: forged, expired, or of another terminal."""
    assert desk.file(assertion=b"forged") == Refusal("assertion.invalid", retry=False)
    other = Terminal(desk.platform, "GT-0002", STRANGER)
    other.obtain_keys()
    (answer,) = other.ask(bytes(16), to_payload(desk.filing()))
    refused = from_payload(Payload(answer.schema, answer.version, False, answer.body), Refusal)
    assert refused == Refusal("assertion.invalid", retry=False)
    desk.clock.now += 901
    assert desk.file() == Refusal("assertion.expired", retry=True)


def test_the_next_quarter(desk: Desk) -> None:
    """T17: what began before keeps its form; withdrawn and dearer matters are refused, and the number says so."""
    next(one for one in desk.platform.services.all if isinstance(one, Matters)).publish()
    kept = desk.file(BARE)
    assert isinstance(kept, ReceiptStanding)
    assert desk.file(BARE, catalogue_version=2, matter_version=2) == Refusal("application.invalid", retry=False)
    for matter, code in ((WITHDRAWN, "matter.withdrawn"), (PAID, "fee.changed")):
        filing = desk.filing(matter)
        assert desk.ask(filing, ReceiptStanding) == Refusal(code, retry=False)
        (told,) = desk.progress(filing.receipt)
        assert (told.state, told.code) == ("refused", code)
    next(one for one in desk.platform.services.all if isinstance(one, Matters)).publish()
    assert desk.file(PLAIN) == Refusal("catalogue.outdated", retry=False)
    assert desk.complaints() == {"complaint application.invalid"}


def test_turned_away_it_may_be_filed_again_under_its_number(desk: Desk) -> None:
    filing = desk.filing(form=b"{}")
    assert desk.ask(filing, ReceiptStanding) == Refusal("application.invalid", retry=False)
    again = desk.file(receipt=filing.receipt)
    assert isinstance(again, ReceiptStanding)
    assert [one.state for one in desk.progress(filing.receipt)] == ["accepted"]


def test_a_number_that_never_came_whole_is_not_filed(desk: Desk) -> None:
    """Rule 2: by the terminal's record; an application that came all the same counts."""
    receipt = new_receipt("application")
    body = to_payload(ReceiptVoid(receipt, "application", NOW)).body
    desk.terminal.record(1, body=body, schema="receipt.void")
    assert [one.state for one in desk.progress(receipt)] == ["not_filed"]
    assert isinstance(desk.file(receipt=receipt), ReceiptStanding)
    assert [one.state for one in desk.progress(receipt)] == ["accepted"]
