"""Takes applications: everything that the terminal checked is checked again; decides the pending ones (T8, T11)."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from runtime.messages.applications import ApplicationFiling, ReceiptStanding, ReceiptState
from runtime.messages.certificate import Refusal
from runtime.messages.matters import Matter
from runtime.services.forms import check
from runtime.services.receipts import read_receipt
from sim.people import Citizen
from sim.platform.matters import EXAMINED_SECONDS
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.identity import Identity
from sim.platform.services.matters import Matters
from sim.wire import Verbs
from transport.sm import sm3

log = structlog.get_logger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS filings (
    receipt TEXT PRIMARY KEY, terminal TEXT NOT NULL, id_number TEXT NOT NULL, catalogue_version INTEGER NOT NULL,
    matter TEXT NOT NULL, matter_version INTEGER NOT NULL, title TEXT NOT NULL, form BLOB NOT NULL,
    fee_fen INTEGER NOT NULL, payment TEXT, state TEXT NOT NULL, text TEXT NOT NULL, at INTEGER NOT NULL,
    decided_at INTEGER);
CREATE TABLE IF NOT EXISTS filed_scans (
    receipt TEXT NOT NULL, material TEXT NOT NULL, digest BLOB NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (receipt, material));
CREATE TABLE IF NOT EXISTS turned_away (
    receipt TEXT PRIMARY KEY, terminal TEXT NOT NULL, id_number TEXT NOT NULL, title TEXT NOT NULL,
    code TEXT NOT NULL, at INTEGER NOT NULL);
"""

Paid = Callable[[str, str, int], bool]
"""Spends what this order paid for this receipt, once: (order, receipt, fen); False when it did not, or no longer."""
_ACCEPTED = "您的申请已受理。"
_PENDING = "您的申请已提交，正在审核。"


class _Wrong(Exception):
    """A filing that is not taken; `is_complaint` when the terminal should never have sent it."""

    def __init__(self, code: str, *, is_complaint: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.is_complaint = is_complaint


@dataclass(frozen=True, slots=True)
class Applications:
    """The applications service."""

    desk: Desk
    identity: Identity
    matters: Matters
    paid: Paid

    def __post_init__(self) -> None:
        self.desk.database.executescript(SCHEMA)

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {ApplicationFiling: self._file}

    @property
    def verbs(self) -> Verbs:
        """What the rig's control socket may order."""
        return {"decide": self.decide}

    def decide(self, receipt: str, *, accept: bool = True, text: str = _ACCEPTED) -> None:
        """Decide a pending application; raise ValueError when there is none of this number."""
        changed = self.desk.database.execute(
            "UPDATE filings SET state = ?, text = ?, decided_at = ? WHERE receipt = ? AND state = 'pending'",
            ("accepted" if accept else "refused", text, self.desk.now(), receipt),
        ).rowcount
        self.desk.store.commit()
        if changed == 0:
            message = f"receipt {receipt}: no pending application"
            raise ValueError(message)

    def standing(self, receipt: str) -> ReceiptStanding | None:
        """Return where an application stands, also one that was turned away."""
        return next(iter(self._standings("receipt", receipt)), None)

    def standings(self, citizen: Citizen) -> list[ReceiptStanding]:
        """Return where every application of a citizen stands."""
        return self._standings("id_number", citizen.id_number)

    def _standings(self, column: str, value: str) -> list[ReceiptStanding]:
        database, now = self.desk.database, self.desk.now()
        filed = database.execute(
            f"SELECT receipt, matter, state, title, text, at, decided_at FROM filings WHERE {column} = ?",  # noqa: S608 - our own names
            (value,),
        ).fetchall()
        found: list[ReceiptStanding] = []
        for receipt, matter, state, title, text, at, decided in filed:
            due = at + EXAMINED_SECONDS.get(matter, 0)
            is_due = state == "pending" and now >= due
            known: ReceiptState = "accepted" if is_due else state
            said, when = (_ACCEPTED, due) if is_due else (text, decided or at)
            found.append(ReceiptStanding(receipt, "application", known, title, said, when))
        numbers = {one.receipt for one in found}
        away = database.execute(f"SELECT receipt, title, code, at FROM turned_away WHERE {column} = ?", (value,))  # noqa: S608 - our own names
        for receipt, title, code, at in away.fetchall():
            if receipt not in numbers:
                found.append(ReceiptStanding(receipt, "application", "refused", title, "", at, code))
        return found

    def _file(self, terminal: str, filing: ApplicationFiling) -> ReceiptStanding | Refusal:
        citizen = self.identity.citizen(terminal, filing.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        title = ""
        try:
            self._expect_new(filing.receipt)
            matter = self._matter(filing)
            title = matter.title
            self._expect_content(filing, matter)
        except _Wrong as wrong:
            return self._turn_away(terminal, filing, citizen, title, wrong)
        state: ReceiptState = "pending" if filing.matter in EXAMINED_SECONDS else "accepted"
        text = _PENDING if state == "pending" else _ACCEPTED
        self._store(terminal, filing, citizen, ReceiptStanding("", "application", state, title, text, 0))
        log.info("platform_took_application", terminal=terminal, matter=filing.matter, state=state)
        number = self.desk.faults.receipt(filing.receipt)
        return ReceiptStanding(number, "application", state, title, text, self.desk.now())

    def _expect_new(self, receipt: str) -> None:
        if read_receipt(receipt) != receipt or not receipt.startswith("A"):
            raise _Wrong("application.invalid", is_complaint=True)
        if self.desk.database.execute("SELECT 1 FROM filings WHERE receipt = ?", (receipt,)).fetchone():
            raise _Wrong("application.duplicate", is_complaint=True)

    def _matter(self, filing: ApplicationFiling) -> Matter:
        """Return the matter as it was when the application began: in the version in force, or the one before."""
        current = self.matters.version
        if not current - 1 <= filing.catalogue_version <= current:
            raise _Wrong("catalogue.outdated")
        began = self.matters.matter(filing.catalogue_version, filing.matter)
        if began is None or began.version != filing.matter_version or began.fee_fen != filing.fee_fen:
            raise _Wrong("application.invalid", is_complaint=True)
        now = self.matters.matter(current, filing.matter)
        if now is None:
            raise _Wrong("matter.withdrawn")
        if now.fee_fen != filing.fee_fen:
            raise _Wrong("fee.changed")
        return began

    def _expect_content(self, filing: ApplicationFiling, matter: Matter) -> None:
        """Check form, materials and fee as if the terminal had checked nothing."""
        try:
            form = msgspec.json.decode(filing.form, type=dict)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _Wrong("application.invalid", is_complaint=True) from None
        if check(matter.form, form):
            raise _Wrong("application.invalid", is_complaint=True)
        scanned = [scan.material for scan in filing.scans]
        required = {material.id for material in matter.materials if material.required}
        known = {material.id for material in matter.materials}
        if len(set(scanned)) != len(scanned) or not required <= set(scanned) <= known:
            raise _Wrong("application.incomplete", is_complaint=True)
        if any(sm3(scan.pdf) != scan.digest or not scan.pdf.startswith(b"%PDF-") for scan in filing.scans):
            raise _Wrong("application.invalid", is_complaint=True)
        if matter.fee_fen and not (filing.payment and self.paid(filing.payment, filing.receipt, matter.fee_fen)):
            raise _Wrong("fee.unpaid", is_complaint=True)

    def _turn_away(
        self, terminal: str, filing: ApplicationFiling, citizen: Citizen, title: str, wrong: _Wrong
    ) -> Refusal:
        log.info("platform_turned_application_away", terminal=terminal, code=wrong.code)
        if wrong.is_complaint:
            self.desk.store.count(f"complaint {wrong.code}")
        began = self.matters.matter(filing.catalogue_version, filing.matter)
        row = (
            filing.receipt,
            terminal,
            citizen.id_number,
            title or (began.title if began is not None else ""),
            wrong.code,
            self.desk.now(),
        )
        self.desk.database.execute("INSERT OR REPLACE INTO turned_away VALUES (?, ?, ?, ?, ?, ?)", row)
        return Refusal(wrong.code, retry=False)

    def _store(self, terminal: str, filing: ApplicationFiling, citizen: Citizen, standing: ReceiptStanding) -> None:
        database = self.desk.database
        row = (
            filing.receipt,
            terminal,
            citizen.id_number,
            filing.catalogue_version,
            filing.matter,
            filing.matter_version,
            standing.title,
            filing.form,
            filing.fee_fen,
            filing.payment,
            standing.state,
            standing.text,
            self.desk.now(),
        )
        database.execute("INSERT INTO filings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
        database.executemany(
            "INSERT INTO filed_scans VALUES (?, ?, ?, ?)",
            [(filing.receipt, scan.material, scan.digest, len(scan.pdf)) for scan in filing.scans],
        )
