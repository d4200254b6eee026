"""Unified identity: asserts who was verified, and knows its own assertions again (I4).

It believes no terminal blindly: a means without its evidence, its consent or its second factor is complained of.
"""

import re
import secrets
from dataclasses import dataclass, field

import msgspec
import structlog

from runtime.messages.certificate import Refusal
from runtime.messages.identity import AssertionContent, AssertionIssue, AssertionRequest
from sim.people import Citizen
from sim.platform.services.desk import Desk, Handlers
from sim.platform.staff import Staff
from sim.wire import Verbs
from transport.errors import TransportError

log = structlog.get_logger(__name__)

LIFE_SECONDS = 900
_CONSENT = re.compile(r"[A-Za-z0-9._-]{1,32}")
_GENUINE = {("match", "bona_fide"), ("match", "not_checked")}
_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,64}")
SCHEMA = """
CREATE TABLE IF NOT EXISTS assertions (
    subject TEXT PRIMARY KEY, terminal TEXT NOT NULL, session TEXT NOT NULL, name TEXT NOT NULL,
    id_number TEXT NOT NULL, means TEXT NOT NULL, consent TEXT NOT NULL, expires_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS assistance (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, staff TEXT NOT NULL, terminal TEXT NOT NULL, session TEXT NOT NULL,
    outcome TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity service; `assistance` in the database is its log of who vouched for citizens (H6)."""

    desk: Desk
    staff: Staff = field(init=False)

    def __post_init__(self) -> None:
        self.desk.database.executescript(SCHEMA)
        object.__setattr__(self, "staff", Staff(self.desk.database, self.desk.people.seed, self.desk.now))

    @property
    def verbs(self) -> Verbs:
        """What the rig can do at it: look at the authenticator of a member of staff."""
        return {"staff_code": self.staff.code}

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {AssertionRequest: self._assert}

    def citizen(self, terminal: str, assertion: bytes) -> Citizen | Refusal:
        """Return whom an encoded AssertionIssue is of, or why it is none that counts here and now."""
        try:
            issue = msgspec.msgpack.decode(assertion, type=AssertionIssue)
            content = msgspec.msgpack.decode(issue.content, type=AssertionContent)
            self.desk.signing.public.verify(issue.signature, issue.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, TransportError):
            return Refusal("assertion.invalid", retry=False)
        row = self.desk.database.execute(
            "SELECT name, id_number FROM assertions WHERE subject = ? AND terminal = ? AND session = ?",
            (content.subject, terminal, content.session),
        ).fetchone()
        found = None if row is None else self.desk.people.find(*row)
        if found is None or content.terminal != terminal:
            return Refusal("assertion.invalid", retry=False)
        if self.desk.now() >= content.expires_unix:
            return Refusal("assertion.expired", retry=True)
        return found

    def _assert(self, terminal: str, request: AssertionRequest) -> AssertionIssue | Refusal:
        if (fault := _fault(request)) is not None:
            log.warning("platform_complains", code="assertion.bad_evidence", terminal=terminal, fault=fault)
            self.desk.store.count("complaint assertion.bad_evidence")
            return Refusal("assertion.bad_evidence", retry=False)
        if request.staff is not None and request.code is not None:
            checked = self.staff.check(request.staff, request.code)
            self.desk.database.execute(
                "INSERT INTO assistance (at, staff, terminal, session, outcome) VALUES (?, ?, ?, ?, ?)",
                (self.desk.now(), request.staff, terminal, request.session, checked),
            )
            if checked != "ok":
                return Refusal(checked, retry=checked == "staff.refused")
        if self.desk.people.find(request.name, request.id_number) is None:
            return Refusal("citizen.unknown", retry=False)
        subject, now = secrets.token_hex(8), self.desk.now()
        expires = now + LIFE_SECONDS
        content = AssertionContent(1, terminal, request.session, subject, request.means, now, expires)
        self.desk.database.execute(
            "INSERT INTO assertions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                subject,
                terminal,
                request.session,
                request.name,
                request.id_number,
                request.means,
                request.consent,
                expires,
            ),
        )
        encoded = msgspec.msgpack.encode(content)
        return AssertionIssue(encoded, self.desk.signing.sign(encoded))


def _fault(request: AssertionRequest) -> str | None:
    """Return what a request lacks, or has too much, for the means it names; None when all is there."""
    is_assisted = request.means == "assisted"
    if not _REFERENCE.fullmatch(request.session):
        return "session"
    if is_assisted == (request.staff is None or request.code is None):
        return "second factor"
    if not is_assisted and not _CONSENT.fullmatch(request.consent):
        return "consent"
    if (request.means == "face") != (request.face is not None):
        return "evidence"
    if request.face is not None and (request.face.decision, request.face.presentation_attack) not in _GENUINE:
        return "decision"
    return None
