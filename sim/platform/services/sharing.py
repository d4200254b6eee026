"""Shares information: grants signed, every use checked against them and counted, suspended on arrears (S1 to S7)."""

from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from runtime.messages.certificate import Refusal
from runtime.messages.sharing import (
    UNIT_BYTES,
    DatasetPart,
    DatasetRequest,
    Grant,
    Grants,
    GrantsRequest,
    Mode,
    SharingAnswer,
    SharingChanged,
    SharingQuery,
    Statement,
    StatementLine,
    StatementRequest,
    Use,
    UseRequest,
    UseStanding,
    grants_content,
)
from runtime.services.metering import month_of
from runtime.services.quality import check_parameters
from runtime.services.resources import BY_NAME
from runtime.services.steps import Refused
from sim.people import Citizen
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.identity import Identity
from sim.platform.sharing import DATASETS, dataset, found
from sim.wire import Verbs
from transport.sm import sm3

log = structlog.get_logger(__name__)

PART_BYTES = 256 * 1024
STALE_SECONDS = 400 * 24 * 3600
GRANTED: dict[str, tuple[tuple[str, Mode], ...]] = {
    "open_government": (("public_display", "query"), ("public_display", "dataset")),
    "service_matters": (("public_display", "query"), ("public_display", "dataset"), ("guidance", "query")),
    "supervision_results": (("credit_enquiry", "query"),),
    "enterprise_check": (("application", "call"),),
    "social_insurance": (("application", "query"),),
    "household_check": (("application", "call"),),
}
"""What every terminal may do with each resource, unless it was withdrawn: a purpose and a mode."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS sharing_grants (
    id TEXT NOT NULL, terminal TEXT NOT NULL, resource TEXT NOT NULL, purpose TEXT NOT NULL, mode TEXT NOT NULL,
    expires_at INTEGER NOT NULL, PRIMARY KEY (terminal, id));
CREATE TABLE IF NOT EXISTS sharing_withdrawn (resource TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS sharing_arrears (since INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sharing_sets (resource TEXT PRIMARY KEY, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sharing_uses (
    terminal TEXT NOT NULL, use TEXT NOT NULL, resource TEXT NOT NULL, mode TEXT NOT NULL, units INTEGER NOT NULL,
    at INTEGER NOT NULL, month TEXT NOT NULL, PRIMARY KEY (terminal, use));
"""


@dataclass(frozen=True, slots=True)
class Sharing:
    """The service of shared information; every terminal is granted `GRANTED`."""

    desk: Desk
    identity: Identity

    def __post_init__(self) -> None:
        self.desk.database.executescript(SCHEMA)
        for resource in DATASETS:
            self.desk.database.execute("INSERT OR IGNORE INTO sharing_sets VALUES (?, 1)", (resource,))
        self.desk.store.commit()

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {
            GrantsRequest: self._grants,
            SharingQuery: self._query,
            DatasetRequest: self._part,
            UseRequest: self._use,
            StatementRequest: self._statement,
        }

    @property
    def verbs(self) -> Verbs:
        """What the rig's control socket may order."""
        return {
            "suspend_sharing": self.suspend,
            "publish_dataset": self.publish,
            "withdraw_grants": self.withdraw,
            "tell_sharing": self.tell,
        }

    def suspend(self, *, on: bool = True, tell: bool = True) -> None:
        """Suspend every use on arrears, or end that; the terminals are told, unless they are to find out."""
        self.desk.database.execute("DELETE FROM sharing_arrears")
        if on:
            self.desk.database.execute("INSERT INTO sharing_arrears VALUES (?)", (self.desk.now(),))
        self.desk.store.commit()
        if tell:
            self.tell()

    def publish(self, resource: str) -> int:
        """Put the next version of a data set in force and return its number; raise ValueError where there is none."""
        if resource not in DATASETS:
            message = f"resource {resource}: no data set"
            raise ValueError(message)
        self.desk.database.execute("UPDATE sharing_sets SET version = version + 1 WHERE resource = ?", (resource,))
        self.desk.store.commit()
        return self.version(resource)

    def withdraw(self, resource: str, *, tell: bool = True) -> None:
        """Withdraw every grant of a resource."""
        self.desk.database.execute("INSERT OR IGNORE INTO sharing_withdrawn VALUES (?)", (resource,))
        self.desk.database.execute("DELETE FROM sharing_grants WHERE resource = ?", (resource,))
        self.desk.store.commit()
        if tell:
            self.tell()

    def tell(self) -> None:
        """Tell every terminal that grants or suspension changed."""
        self.desk.order(SharingChanged("ordered"))

    def version(self, resource: str) -> int:
        """Return the version of a data set in force; 0 where there is none."""
        statement = "SELECT version FROM sharing_sets WHERE resource = ?"
        row = self.desk.database.execute(statement, (resource,)).fetchone()
        return 0 if row is None else int(row[0])

    def content(self, resource: str, version: int) -> bytes:
        """Return a version of a data set."""
        return dataset(resource, self.desk.people.seed, version, DATASETS[resource])

    @property
    def _is_suspended(self) -> bool:
        return self.desk.database.execute("SELECT 1 FROM sharing_arrears").fetchone() is not None

    def _grants(self, terminal: str, _request: GrantsRequest) -> Grants:
        database, now = self.desk.database, self.desk.now()
        withdrawn = {resource for (resource,) in database.execute("SELECT resource FROM sharing_withdrawn")}
        grants = []
        for resource, uses in GRANTED.items():
            for purpose, mode in uses if resource not in withdrawn else ():
                name = sm3(f"{terminal} {resource} {purpose} {mode}".encode()).hex()[:16]
                grants.append(Grant(name, resource, purpose, mode, now + self.desk.faults.grant_seconds))
                row = (name, terminal, resource, purpose, mode, grants[-1].expires_unix)
                database.execute("INSERT OR REPLACE INTO sharing_grants VALUES (?, ?, ?, ?, ?, ?)", row)
        suspended = self._is_suspended
        whose = "another" if self.desk.faults.sharing == "grants" else terminal
        signature = self.desk.signing.sign(grants_content(whose, tuple(grants), now, suspended=suspended))
        return Grants(tuple(grants), suspended, now, signature)

    def _query(self, terminal: str, query: SharingQuery) -> SharingAnswer | Refusal:
        refusal = self._refusal(terminal, query, query.mode)
        if refusal is not None:
            return refusal
        resource = BY_NAME[query.resource]
        citizen: Citizen | None = None
        if resource.personal:
            who = self.identity.citizen(terminal, query.assertion or b"")
            if isinstance(who, Refusal):
                return who
            citizen = self.desk.people.citizen(7) if self.desk.faults.sharing == "person" else who
        try:
            parameters = msgspec.json.decode(query.parameters, type=dict[str, Any])
            check_parameters(resource, parameters)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Refused):
            return self._complain(terminal, "sharing.bad_parameters")
        rows = found(resource.name, self.desk.people.seed, parameters, citizen)
        how, now = self.desk.faults.sharing, self.desk.now()
        if how == "rows":
            rows = [{**row, "added": 1} for row in rows]
        body = msgspec.json.encode(rows)
        answer = SharingAnswer(
            resource=resource.name,
            rows=_flipped(body) if how == "damage" else body,
            count=len(rows) + (1 if how == "count" else 0),
            digest=sm3(body),
            as_of_unix=now - (STALE_SECONDS if how == "stale" else 60),
            counted_unix=now,
            units=1,
        )
        self._count(terminal, query.use, Use(resource.name, query.mode, answer.units, now))
        return answer

    def _part(self, terminal: str, request: DatasetRequest) -> DatasetPart | Refusal:
        refusal = self._refusal(terminal, request, "dataset")
        if refusal is not None:
            return refusal
        current = self.version(request.resource)
        if request.version not in (0, current):
            return Refusal("sharing.version_changed", retry=False)
        content = self.content(request.resource, current)
        if not 0 <= request.offset <= len(content):
            return self._complain(terminal, "sharing.bad_parameters")
        body = content[request.offset : request.offset + PART_BYTES]
        how, now, units = self.desk.faults.sharing, self.desk.now(), -(-len(body) // UNIT_BYTES)
        part = DatasetPart(
            resource=request.resource,
            version=max(1, current - 1) if how == "older" else current,
            offset=request.offset,
            total=len(content),
            body=_flipped(body) if how == "damage" else body,
            digest=sm3(content),
            count=content.count(b"\n") + (1 if how == "count" else 0),
            as_of_unix=now - (STALE_SECONDS if how == "stale" else 60),
            counted_unix=now,
            units=units,
        )
        self._count(terminal, request.use, Use(request.resource, "dataset", units, now))
        return part

    def _refusal(self, terminal: str, asked: SharingQuery | DatasetRequest, mode: Mode) -> Refusal | None:
        """Return why a use is refused; the terminal should have known of its grants by itself."""
        row = self.desk.database.execute(
            "SELECT resource, purpose, mode, expires_at FROM sharing_grants WHERE terminal = ? AND id = ?",
            (terminal, asked.grant),
        ).fetchone()
        if row is None or tuple(row[:3]) != (asked.resource, asked.purpose, mode):
            return self._complain(terminal, "sharing.not_granted")
        if self.desk.now() >= row[3]:
            return self._complain(terminal, "sharing.grant_expired")
        if self._counted(terminal, asked.use) is not None:
            return self._complain(terminal, "sharing.use_reused")
        if self._is_suspended:
            return Refusal("sharing.suspended", retry=False)
        return Refusal("sharing.busy", retry=True) if self.desk.faults.is_sharing_busy() else None

    def _count(self, terminal: str, use: str, counted: Use) -> None:
        row = (terminal, use, counted.resource, counted.mode, counted.units, counted.counted_unix)
        self.desk.database.execute(
            "INSERT INTO sharing_uses VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, month_of(counted.counted_unix))
        )
        log.info("platform_shared", terminal=terminal, resource=counted.resource, mode=counted.mode)

    def _use(self, terminal: str, request: UseRequest) -> UseStanding:
        return UseStanding(request.use, self._counted(terminal, request.use))

    def _counted(self, terminal: str, use: str) -> Use | None:
        statement = "SELECT resource, mode, units, at FROM sharing_uses WHERE terminal = ? AND use = ?"
        row = self.desk.database.execute(statement, (terminal, use)).fetchone()
        return None if row is None else Use(*row)

    def _statement(self, terminal: str, request: StatementRequest) -> Statement:
        rows = self.desk.database.execute(
            "SELECT resource, mode, count(*), sum(units) FROM sharing_uses WHERE terminal = ? AND month = ?"
            " GROUP BY resource, mode ORDER BY resource, mode",
            (terminal, request.month),
        )
        more = 1 if self.desk.faults.sharing == "statement" else 0
        lines = [StatementLine(resource, mode, uses + more, units + more) for resource, mode, uses, units in rows]
        return Statement(request.month, tuple(lines))

    def _complain(self, terminal: str, code: str) -> Refusal:
        log.warning("platform_complains", code=code, terminal=terminal)
        self.desk.store.count(f"complaint {code}")
        return Refusal(code, retry=False)


def _flipped(content: bytes) -> bytes:
    """Return the content with its last byte but one changed, where it has one."""
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:] if len(content) > 1 else content
