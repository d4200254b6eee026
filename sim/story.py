"""The story the demo tells: one citizen served, one impostor refused, everything counted (T1, T7, T9, T12, T20)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from sim.control import ask
from sim.delivery import Delivery, count, waiting
from sim.people import Citizen
from sim.rig import Rig
from sim.sabotage import Sabotage
from sim.scan import needles, scan_files
from sim.settings import RigFiles
from sim.terminal import COMPONENTS, Terminal, connected, daemon

CERTIFICATE = "social_insurance_enrolment"
CONSENT_VERSION = "demo-1"
CITIZEN = 0
CITIZENS_FACE, IMPOSTORS_FACE = "grace_hopper", "eileen_collins"
NO_MATCH = "face.no_match"

_POLL_SECONDS = 0.1
_DELIVERY_POLLS = 200


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a step of the story ended, as the daemon told its UI; name and number are masked by the daemon."""

    step: str
    outcome: str
    code: str | None = None
    seconds: float = 0.0
    name: str | None = None
    id_number: str | None = None
    number: str | None = None
    paper: str | None = None
    face: dict[str, Any] | None = None
    steps: list[dict[str, Any]] = []


class Report(msgspec.Struct):
    """What happened. `failures` says in words where the story did not go as told; empty means it did."""

    story: list[Outcome]
    impostor: Outcome
    delivery: Delivery
    paper: list[str]
    personal_data_found: int
    complaints: dict[str, int]
    directory: str
    failures: list[str]


class Narrator(Protocol):
    """Who shows the story as it happens."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        """Show that something is being done, while the context lasts."""

    def guidance(self, text: str) -> None:
        """Show what the citizen is asked to do."""

    def done(self, what: str, seconds: float) -> None:
        """Show that something is done."""

    def told(self, who: str, outcome: Outcome) -> None:
        """Show how a step of the story ended."""


class Story:
    """One telling of the story on a running rig."""

    def __init__(self, rig: Rig, narrator: Narrator, sabotage: Sabotage | None = None) -> None:
        self._rig = rig
        self._narrator = narrator
        self._sabotage = sabotage
        self.outcomes: list[Outcome] = []
        self.impostor = Outcome("identity", "not_reached")
        self.papers: list[Path] = []
        self.failures: list[str] = []

    @property
    def files(self) -> RigFiles:
        """The rig's files."""
        return self._rig.files

    @asynccontextmanager
    async def terminal(self) -> AsyncIterator[Terminal]:
        """Run the daemon and connect to it as a UI does, with every component online."""
        started = time.perf_counter()
        async with daemon(self.files) as process:
            self._narrator.done("the daemon serves its API", time.perf_counter() - started)
            async with connected(self.files, self._narrator.guidance) as terminal:
                with self._narrator.doing("waiting for the ID-card reader, printer, camera and platform"):
                    for component in COMPONENTS:
                        await terminal.wait_until(component, "online")
                self._narrator.done("every component is online", time.perf_counter() - started)
                yield terminal
        if process.returncode != 0:
            self.failures.append(f"the daemon ended with code {process.returncode}, see {self.files.daemon_log}")

    async def serve_citizen(self, terminal: Terminal) -> None:
        """Check the citizen's identity and print a certificate."""
        if self._sabotage is Sabotage.BROKEN_SEAL:
            await self._rig.do("platform", "broken_seal")
        elif self._sabotage is Sabotage.DROP_RECORD:
            await self._rig.do("platform", "drop_record")
        elif self._sabotage is Sabotage.DOUBLE_RECORD:
            await self._rig.do("platform", "double_record")
        async with self._session(terminal, CITIZENS_FACE) as session:
            with self._narrator.doing("reading the card and comparing the face"):
                result = await terminal.call("session.verify_identity", session=session)
            self._tell(_outcome("identity", result))
            with self._narrator.doing("asking the platform, checking the seal, printing"):
                result = await terminal.call("session.request_certificate", session=session, certificate=CERTIFICATE)
            self._tell(_outcome("certificate", result))

    async def refuse_impostor(self, terminal: Terminal) -> None:
        """Let somebody else try with the same card."""
        face = CITIZENS_FACE if self._sabotage is Sabotage.SAME_FACE else IMPOSTORS_FACE
        async with self._session(terminal, face) as session:
            with self._narrator.doing("the same card, another face"):
                result = await terminal.call("session.verify_identity", session=session)
            self.impostor = _outcome("identity", result)
            self._narrator.told("impostor", self.impostor)
        self.papers = self._rig.papers()

    async def wait_for_delivery(self) -> None:
        """Wait until the platform receipted every record; when it does not in time, the count will tell."""
        with self._narrator.doing("waiting for the platform's receipts"):
            started = time.perf_counter()
            left = waiting(self.files.state / "journal.db")
            for _ in range(_DELIVERY_POLLS if left else 0):
                await asyncio.sleep(_POLL_SECONDS)
                if not (left := waiting(self.files.state / "journal.db")):
                    break
        what = f"{left} records are not receipted" if left else "the platform receipted every record"
        self._narrator.done(what, time.perf_counter() - started)

    async def report(self) -> Report:
        """Count and search, once the daemon has stopped, and judge."""
        files, citizen = self.files, self._rig.people.citizen(CITIZEN)
        summary = await ask(files.platform_control, "platform", "summary")
        delivery = count(files.state / "journal.db", files.platform_database, self._rig.settings.terminal_id)
        if self._sabotage is Sabotage.PLANT_NAME:
            (files.state / "planted").write_text(citizen.name, encoding="gb18030")
        found = await asyncio.to_thread(self._search, citizen)
        report = Report(
            story=self.outcomes,
            impostor=self.impostor,
            delivery=delivery,
            paper=[str(piece) for piece in self.papers],
            personal_data_found=len(found),
            complaints={name: number for name, number in summary["counters"].items() if name.startswith("complaint")},
            directory=str(files.directory),
            failures=self.failures,
        )
        report.failures += [f"personal data ({what}) found in {place}" for what, place in found]
        report.failures += _judge(report)
        return report

    def _search(self, citizen: Citizen) -> list[tuple[str, str]]:
        """Search the daemon's state and log and the broker's directory for the citizen (T20)."""
        texts = {"name": citizen.name, "ID number": citizen.id_number, "address": citizen.address}
        wanted = needles(texts, {"photo": self._rig.photos[CITIZENS_FACE]})
        places: list[Path] = [self.files.state, self.files.daemon_log, self.files.trust_directory]
        return [(f"{one.what}, {one.form}", f"{one.file} at {one.offset}") for one in scan_files(places, wanted)]

    def _tell(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._narrator.told(outcome.step, outcome)

    @asynccontextmanager
    async def _session(self, terminal: Terminal, face: str) -> AsyncIterator[str]:
        """A citizen's visit: somebody before the camera, a session, consent, the card on the reader, which is taken."""
        await self._rig.do("camera", "show", person=face)
        session: str = (await terminal.call("session.open"))["session"]
        await terminal.call("session.consent", session=session, agreed=True, version=CONSENT_VERSION)
        await self._rig.do("idcard", "place_card", citizen=CITIZEN, photo=CITIZENS_FACE)
        yield session
        await terminal.call("session.close", session=session)
        await self._rig.do("idcard", "remove_card")
        await terminal.wait_until("session", "none")


def _outcome(step: str, result: dict[str, Any]) -> Outcome:
    return msgspec.convert({**result, "step": step}, Outcome)


def _judge(report: Report) -> list[str]:
    """Say where the story did not go as told."""
    failures = []
    told = {one.step: one for one in report.story}
    for step in ("identity", "certificate"):
        if step not in told:
            failures.append(f"{step}: not reached")
        elif told[step].outcome != "done":
            failures.append(f"{step}: {told[step].outcome} ({told[step].code})")
    if "certificate" in told and told["certificate"].outcome == "done" and told["certificate"].paper != "printed":
        failures.append(f"certificate: the paper is {told['certificate'].paper}")
    if (report.impostor.outcome, report.impostor.code) != ("refused", NO_MATCH):
        failures.append(f"impostor: {report.impostor.outcome} ({report.impostor.code}), not refused ({NO_MATCH})")
    delivery = report.delivery
    if not delivery.sent:
        failures.append("delivery: nothing was sent")
    wrong = {"lost": delivery.lost, "duplicates": delivery.duplicates, "altered": delivery.altered}
    failures += [f"delivery: {number} {name} of {delivery.sent} records" for name, number in wrong.items() if number]
    if len(report.paper) != 1:
        failures.append(f"paper: {len(report.paper)} pieces, not 1")
    failures += [f"the platform's {name}: {number}" for name, number in report.complaints.items()]
    return failures
