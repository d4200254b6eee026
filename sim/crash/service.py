"""What is enumerated: a service's scripted citizen, and what must hold of what is left when the daemon stopped."""

import re
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sim.caller import Caller, CallRefused
from sim.control import ControlError
from sim.crash.sabotage import Sabotage
from sim.crash.transcript import Transcript


class Stage(Protocol):
    """Where the citizen is, in memory or before real processes."""

    async def verified(self, ui: Caller) -> str:
        """Return a session whose citizen is verified, and whose card is in their hand again."""

    async def lay_card(self) -> None:
        """Lay the citizen's ID card on the reader."""

    async def lift_card(self) -> None:
        """Take it away."""

    async def insert_bank_card(self) -> None:
        """Put the citizen's bank card into the reader."""

    async def enter_pin(self, digits: str) -> None:
        """Press digits on the PIN pad, and enter."""

    async def take_bank_card(self) -> None:
        """Take the bank card, if it is held out."""

    async def order(self, verb: str, **args: Any) -> Any:
        """Have the reference platform do something."""


@dataclass(frozen=True, slots=True)
class Remains:
    """Everything after the crash, settled.

    `ui` is a client of the daemon that was started again, `told` what the citizen was told by the one before.
    `before` is the journal as it was written when that one stopped, whatever of it the restart was given. `pieces`
    counts the paper with something on it.
    """

    ui: Caller
    told: Transcript
    before: sqlite3.Connection
    journal: sqlite3.Connection
    platform: sqlite3.Connection
    pieces: int

    def acted(self, kind: str) -> list[str]:
        """Return the names of the intents of a kind that were journaled before the daemon stopped."""
        rows = self.before.execute("SELECT name FROM intents WHERE kind = ? ORDER BY opened_at", (kind,))
        return [str(row[0]) for row in rows]

    def settled(self, kind: str, acted: Collection[str]) -> list[str]:
        """Return where the outcome of an intent of a kind is not what became of it: `acted` names those done.

        What the platform did without an intent that was journaled before is told too (rule 2).
        """
        begun = set(self.acted(kind))
        bare = [f"{kind} {name} was done without an intent" for name in acted if name not in begun]
        statement = "SELECT name, state FROM intents WHERE kind = ?"
        rows = self.journal.execute(statement, (kind,)).fetchall()
        wrong = [(name, state) for name, state in rows if (state == "done") != (name in acted)]
        return bare + [f"the intent {kind} {name} is {state}, and that is not so" for name, state in wrong]

    def count(self, condition: str) -> int:
        """Return of how many records the platform was told that fulfil a condition; `$.name` stands for a field."""
        condition = re.sub(r"\$\.\w+", lambda field: f"json_extract(event, '{field[0]}')", condition)
        return int(self.platform.execute(f"SELECT count(*) FROM records WHERE {condition}").fetchone()[0])  # noqa: S608 - our own words

    async def stands(self, receipt: str) -> str:
        """Return what the terminal now says of a receipt number: its state, or the code's without `receipt.`."""
        answer = await self.ui.call("progress.by_receipt", receipt=receipt)
        if answer["outcome"] == "done":
            return str(answer["receipts"][0]["state"])
        return str(answer["code"]).removeprefix("receipt.")


class RunFailed(RuntimeError):
    """The run itself went wrong, with nothing done to the daemon."""


@dataclass(frozen=True, slots=True)
class Service:
    """A scripted citizen, and a check that returns what does not hold.

    `meanwhile` is what the citizen does elsewhere while the daemon is dead. `secrets` are what the citizen says beyond
    what the ID card holds: nothing may be written down of either. A sabotage breaks something in the
    platform's database behind the daemon's back, which the check must find.
    """

    name: str
    live: Callable[[Stage, Caller], Awaitable[None]]
    check: Callable[[Remains], Awaitable[list[str]]]
    meanwhile: Callable[[Stage], Awaitable[None]] | None = None
    secrets: tuple[str, ...] = ()
    sabotages: Mapping[Sabotage, Callable[[sqlite3.Connection], None]] = field(default_factory=dict)

    async def serve(self, stage: Stage, ui: Caller) -> None:
        """Serve the citizen to the end; raise RunFailed, and ConnectionError when the daemon is gone."""
        try:
            await self.live(stage, ui)
        except (AssertionError, CallRefused, ControlError, TimeoutError) as error:
            raise RunFailed(f"{self.name}: the citizen is not served: {error!r}") from error
