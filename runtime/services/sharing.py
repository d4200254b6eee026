"""Sharing of the platform's information: queries, calls and data sets, each granted, counted and checked (S1 to S7).

Everything is checked here before anything leaves: the resource, a grant for the purpose and the mode, the parameters,
and a verified citizen where the rows are personal. Personal rows are masked on their way to the UI and kept nowhere.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from devices.personal import mask
from runtime import texts
from runtime.messages.sharing import Grant, Mode, SharingAnswer, SharingQuery
from runtime.services import quality
from runtime.services.datasets import DataSets, Kept, OnProgress
from runtime.services.grants import GrantBook
from runtime.services.metering import Ledger, Taken
from runtime.services.reconciliation import Reconciliation, owed, prune, reconcile, reconciled
from runtime.services.resources import BY_NAME, RESOURCES, Resource
from runtime.services.statement import StatementShown, written
from runtime.services.steps import Found, Refused, Result, Transaction
from runtime.session import Session

LOCAL_SECONDS = 2.0
"""What a step may take that asks nobody outside."""
PARAMETER_BYTES = 16_384
ACTOR = "daemon"
"""Who compares a month that is over."""
_STATES = {"active": "sharing.active", "suspended": "sharing.suspended", "unknown": "sharing.no_grants"}

R = TypeVar("R", bound=Result)


class Shared(Result, frozen=True, kw_only=True):
    """The answer of `sharing.query` and `sharing.call`; personal columns of the rows are masked (T22)."""

    rows: list[dict[str, Any]] = msgspec.field(default_factory=list)
    as_of_unix: int | None = None


class DataSetShown(Result, frozen=True, kw_only=True):
    """The answer of `sharing.dataset`: the current version, how far a pull is, and the rows asked for."""

    version: int | None = None
    previous: int | None = None
    count: int | None = None
    bytes: int | None = None
    as_of_unix: int | None = None
    pulling: int | None = None
    pulling_bytes: int | None = None
    pulled_bytes: int = 0
    rows: list[dict[str, Any]] = msgspec.field(default_factory=list)


class GrantShown(msgspec.Struct, frozen=True):
    """A grant that has not expired."""

    purpose: str
    mode: Mode
    expires_unix: int


class ResourceShown(msgspec.Struct, frozen=True):
    """A resource, what this terminal may do with it, and the JSON Schemas of its rows and parameters."""

    resource: str
    kind: str
    title: str
    title_en: str
    freshness_seconds: int
    personal: bool
    rows: dict[str, Any]
    parameters: dict[str, Any]
    grants: list[GrantShown]


class ResourcesShown(msgspec.Struct, frozen=True):
    """Every resource this release knows; `refusals` counts what was refused, by code, since the daemon began."""

    state: str
    text: str
    resources: list[ResourceShown]
    refusals: dict[str, int]


class Reconciled(Result, frozen=True, kw_only=True):
    """The answer of `sharing.reconcile`."""

    reconciliation: Reconciliation | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants of a resource; `actor` is who for the audit log, `session` the citizen's, if any."""

    actor: str
    session: Session | None
    resource: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Sharing:
    """Serves shared information."""

    grants: GrantBook
    ledger: Ledger
    datasets: DataSets
    terminal: str
    refusals: Counter[str] = field(default_factory=Counter)

    async def ask(self, wanted: Wanted, mode: Literal["query", "call"], parameters: Mapping[str, Any]) -> Shared:
        """Query or call a resource; raises SessionError as `Session.asserted` where its rows are personal."""
        resource = BY_NAME.get(wanted.resource)
        is_personal = resource is not None and bool(resource.personal)
        assertion = wanted.session.asserted() if wanted.session is not None and is_personal else None

        async def work(transaction: Transaction) -> dict[str, Any]:
            body = msgspec.json.encode(parameters)
            async with _local(transaction, "check_grant"):
                known, grant = self.grants.check(wanted.resource, wanted.purpose, mode)
                if known.personal and assertion is None:
                    raise Refused("sharing.needs_session", "a verified citizen's session is needed", retry=False)
                if len(body) > PARAMETER_BYTES:
                    raise Refused("sharing.bad_parameters", f"{len(body)} bytes", retry=False)
                quality.check_parameters(known, dict(parameters))
            query = SharingQuery("", grant.id, grant.resource, grant.purpose, mode, body, assertion)
            answer = await self._answer(transaction, known, query, wanted.session)
            return {"rows": [_masked(known, row) for row in answer.rows], "as_of_unix": answer.as_of_unix}

        return await self._serve(wanted, f"sharing_{mode}", Shared, work, done="sharing.found")

    async def dataset(
        self, wanted: Wanted, *, pull: bool, first: int, most: int, on_progress: OnProgress
    ) -> DataSetShown:
        """Bring a data set up to date where asked to, and show what is here and some of its rows."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            refused: Refused | None = None
            rows: list[dict[str, Any]] = []
            try:
                async with _local(transaction, "check_grant"):
                    resource, _ = self.grants.check(wanted.resource, wanted.purpose, "dataset")
                if pull:
                    await self.datasets.pull(transaction, resource, wanted.purpose, on_progress)
                if most or not pull:
                    async with _local(transaction, "read_dataset"):
                        rows = await self.datasets.page(resource, first, most)
            except Refused as error:
                refused = error
            kept, pulled = await self.datasets.kept(wanted.resource)
            about = _about(kept) | {"pulled_bytes": pulled, "rows": rows}
            if refused is not None:
                about |= {"outcome": "refused", "code": refused.code, "retry": refused.retry}
            return about

        return await self._serve(wanted, "sharing_dataset", DataSetShown, work, done="sharing.dataset_ready")

    def resources(self) -> ResourcesShown:
        """Return every resource and what is granted of it."""
        valid = self.grants.valid()
        state = self.grants.state
        shown = [_shown(resource, valid) for resource in RESOURCES]
        return ResourcesShown(state, texts.text(_STATES[state]).zh, shown, dict(self.refusals))

    async def statement(self, month: str) -> StatementShown:
        """Return the ledger of a month (`2027-01`); raises JournalError."""
        lines = await self.ledger.month(month)
        compared = await reconciled(self.ledger, month)
        return StatementShown(month, lines, compared, written(self.terminal, month, lines, compared))

    async def reconcile(self, actor: str, month: str) -> Reconciled:
        """Compare the ledger of a month with the platform's count."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            found = await reconcile(self.ledger, transaction, month)
            if found.outcome == "equal":
                return {"reconciliation": found}
            about = {"outcome": "refused", "code": "sharing.count_differs", "retry": found.outcome == "unsettled"}
            return about | {"reconciliation": found}

        about = {"month": month}
        return await self.ledger.office.serve(
            actor, "sharing_reconciled", Reconciled, work, done="sharing.count_equal", about=about
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Keep the grants, and the ledger's months; a supervised unit. Raises JournalError."""
        await self.grants.run(ready, self._tend)

    async def _tend(self) -> None:
        """Forget what is too old, and compare the months that are over; those that are not settled stay owed."""
        await prune(self.ledger)
        for month in await owed(self.ledger):
            if (await self.reconcile(ACTOR, month)).reconciliation is None:
                return  # the platform does not say: the next time

    async def _answer(
        self, transaction: Transaction, resource: Resource, query: SharingQuery, session: Session | None
    ) -> Taken:
        async def take(answer: SharingAnswer) -> Taken:
            rows: list[dict[str, Any]] = []
            code: str | None = None
            try:
                async with _local(transaction, "check_data"):
                    rows = await quality.arrived(resource, answer)
                    if resource.personal and session is not None:
                        _check_subject(rows, session)
            except Refused as refused:
                rows, code = [], refused.code
            as_of, counted = answer.as_of_unix, answer.counted_unix
            return Taken(resource.name, query.mode, 1, counted, as_of_unix=as_of, code=code, rows=rows)

        def request(use: str) -> SharingQuery:
            return msgspec.structs.replace(query, use=use)

        try:
            return await self.ledger.ask(transaction, request, SharingAnswer, take)
        except Refused as refused:
            self.grants.refused(refused.code)
            raise

    async def _serve(
        self,
        wanted: Wanted,
        audit_event: str,
        kind: type[R],
        work: Callable[[Transaction], Awaitable[dict[str, Any]]],
        *,
        done: str,
    ) -> R:
        """Do an operation, in the citizen's session where there is one; refusals are counted."""
        office = self.ledger.office
        about = {"resource": wanted.resource, "purpose": wanted.purpose}
        if wanted.session is None:
            result = await office.serve(wanted.actor, audit_event, kind, work, done=done, about=about)
        else:
            result = await office.operate(wanted.session, audit_event, kind, work, done=done, about=about)
        if result.code is not None:
            self.refusals[result.code] += 1
        return result


def _local(transaction: Transaction, name: str) -> AbstractAsyncContextManager[Found]:
    """A step that asks nobody outside."""
    return transaction.step(name, deadline_seconds=LOCAL_SECONDS, no_answer="operation.interrupted")


def _check_subject(rows: list[dict[str, Any]], session: Session) -> None:
    """Raise Refused `sharing.wrong_person` for a row that is not about the session's citizen."""
    number = session.citizen().id_number.reveal()
    if any(row["id_number"] != number for row in rows):
        raise Refused("sharing.wrong_person", "a row about somebody else", retry=False)


def _masked(resource: Resource, row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: mask(str(value), resource.personal[name]) if name in resource.personal else value
        for name, value in row.items()
    }


def _about(kept: Kept) -> dict[str, Any]:
    previous, pulling = kept.previous, kept.pulling
    about: dict[str, Any] = {
        "previous": previous.version if previous is not None else None,
        "pulling": pulling.version if pulling is not None else None,
        "pulling_bytes": pulling.total if pulling is not None else None,
    }
    if (current := kept.current) is not None:
        about |= {"version": current.version, "count": current.count, "bytes": current.total}
        about |= {"as_of_unix": current.as_of_unix}
    return about


def _shown(resource: Resource, valid: list[Grant]) -> ResourceShown:
    granted = [GrantShown(one.purpose, one.mode, one.expires_unix) for one in valid if one.resource == resource.name]
    return ResourceShown(
        resource=resource.name,
        kind=resource.kind,
        title=resource.title,
        title_en=resource.title_en,
        freshness_seconds=resource.freshness_seconds,
        personal=bool(resource.personal),
        rows=resource.rows,
        parameters=resource.parameters,
        grants=granted,
    )
