"""The daemon: built from settings and seams, kept alive in one task tree, stopped in order (rule 4)."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from devices.status import DeviceState, DeviceStatus
from runtime.alarms import Alarms
from runtime.api.listen import ClientListener, PreviewListener
from runtime.api.presence import Presence
from runtime.api.preview import Previews
from runtime.api.roles import Roles
from runtime.api.server import ApiServer
from runtime.api.table import Terminal
from runtime.audit import Audit, AuditError
from runtime.cameras import COMPONENTS, device_status
from runtime.clearance import Clearance, places
from runtime.commands import Announcement, Commands
from runtime.config import Settings
from runtime.enrolment import Enrolment
from runtime.health import Health
from runtime.journal import Journal, JournalError
from runtime.messages import CatalogueAnnouncement, MaintenanceWindow, Stream
from runtime.notify import Notifier
from runtime.peripherals import Peripherals
from runtime.seams import Seams
from runtime.services.applications import Applications
from runtime.services.certificate import CertificateService
from runtime.services.consent import ConsentService
from runtime.services.datasets import DataSets
from runtime.services.document import DocumentService
from runtime.services.filing import FILE, Filing
from runtime.services.grants import GrantBook
from runtime.services.hotline import Hotline
from runtime.services.identity import IdentityService
from runtime.services.issuing import ISSUE, Issuing
from runtime.services.matters import Matters
from runtime.services.metering import USE, Ledger
from runtime.services.office import Office, Settlement
from runtime.services.payment import Payments
from runtime.services.payment_card import CardCounter
from runtime.services.payment_days import DayBook
from runtime.services.payment_keeper import PaymentKeeper
from runtime.services.payment_slip import Slips
from runtime.services.payment_till import CHARGE, REVERSE, Till
from runtime.services.printing import Press, settle_prints
from runtime.services.progress import ProgressService
from runtime.services.registration import REGISTER, Registration
from runtime.services.settlement import SettlementDesk, Settler
from runtime.services.sharing import Sharing
from runtime.services.steps import Origin, event
from runtime.session import SessionState
from runtime.sessions import Sessions
from runtime.state import Component, StateBoard, TooSlow
from runtime.supervisor import Supervisor, UnitState
from runtime.tickets import Tickets
from runtime.trial import Trials
from transport import sm, sm2
from transport.channel import Channel, LineState
from transport.gate import Urgency
from vision.verifier import CameraStatus

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 2.0
"""What the platform may take to receipt the last records when the daemon stops."""

_URGENCY: dict[Stream, Urgency] = {
    "alarm": Urgency.ALARM,
    "supervision": Urgency.RECORD,
    "telemetry": Urgency.TELEMETRY,
}
LONGEST_LINE_PAUSE_SECONDS = 5.0
"""Between two tries of the line: a citizen may be waiting, and a try costs next to nothing."""
WENT_BACK = "journal.went_back"
"""The alarm, and the event, when the platform has records that this journal has lost, or other ones."""
_HEALTHY = {DeviceState.ONLINE, DeviceState.DEVICE_BUSY}
_NOT_AT_FAULT = {*_HEALTHY, DeviceState.STARTING}
_FRAUD = {DeviceState.POTENTIAL_FRAUD, DeviceState.FRAUD_ATTEMPT}
_MEDDLED = {"envelope.forged", "envelope.replayed", "envelope.reordered", "key.bad_signature"}
"""Messages that only somebody at the broker who is not the platform sends (T23)."""
_UNIT_STATES = {
    UnitState.STARTING: DeviceState.STARTING,
    UnitState.RUNNING: DeviceState.ONLINE,
    UnitState.BACKING_OFF: DeviceState.OFFLINE,
    UnitState.GAVE_UP: DeviceState.OFFLINE,
    UnitState.STOPPED: DeviceState.OFFLINE,
}


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where local clients come in."""

    api: ClientListener
    previews: PreviewListener


async def run_daemon(
    settings: Settings,
    seams: Seams,
    *,
    enrolment: Enrolment,
    listeners: Listeners,
    notifier: Notifier,
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set, then stop in order: session, API, outbox, units, journal.

    READY is told when the API serves; devices may still be starting. Raises what forbids a start: TransportError
    (`crypto.self_test`; `enrolment.refusal`, then also an alarm in the journal), JournalError, AuditError, RoleError.
    """
    sm.self_test()
    sm2.self_test()
    roles = Roles(settings.api.ui_users, settings.api.operator_users, settings.api.tester_users)
    origin = Origin(enrolment.boot_id, settings.rig, seams.wall_clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(seams.journal.close)
        journal = Journal(seams.journal, seams.wall_clock)
        await journal.open()
        audit = Audit(seams.journal, settings.audit_file, seams.wall_clock)
        await _note_start(settings, enrolment, journal, audit, origin)
        if enrolment.refusal is not None:
            alarms = Alarms(journal, origin, lambda: None, lambda *_: None)
            await alarms.sound_at_once(enrolment.refusal.code, "enrolment")
            await audit.note("start_refused", actor="daemon", details={"code": enrolment.refusal.code})
            raise enrolment.refusal
        daemon = _Daemon(settings, seams, enrolment=enrolment, journal=journal, audit=audit, origin=origin)
        await daemon.run(listeners, roles, notifier, stop)
        await audit.note("daemon_stopped", actor="daemon")
        await journal.checkpoint()


async def _note_start(settings: Settings, enrolment: Enrolment, journal: Journal, audit: Audit, origin: Origin) -> None:
    """Settle what the last life left open and note that this one begins; a full disk forbids no start (L28)."""
    try:
        if settled := await settle_prints(journal, origin):
            log.warning("prints_settled_as_unknown", count=settled)
    except JournalError as error:
        if error.code != "journal.disk_full":
            raise
        log.error("prints_not_settled", code=error.code, advice="they are at the next start")
    about: dict[str, str | int] = {"version": enrolment.software_version, "boot_id": enrolment.boot_id}
    try:
        await audit.append("daemon_started", actor="daemon", details=about | {"rig": int(settings.rig)})
    except AuditError as error:
        if not error.retry:
            raise
        log.error("audit_line_lost", audit_event="daemon_started", code=error.code, reason=str(error))


class _Daemon:
    """The running daemon: every part, in one TaskGroup."""

    def __init__(
        self,
        settings: Settings,
        seams: Seams,
        *,
        enrolment: Enrolment,
        journal: Journal,
        audit: Audit,
        origin: Origin,
    ) -> None:
        self._settings = settings
        self._seams = seams
        self._enrolment = enrolment
        self._journal = journal
        self._audit = audit
        self._origin = origin
        self._state = StateBoard()
        self._devices: dict[str, DeviceStatus] = {}
        self._cameras: dict[str, DeviceStatus | None] = {}
        self._units: dict[str, tuple[UnitState, str | None]] = {}
        self._settled = 0
        self._supervisor = Supervisor(seams.jitter, self._on_unit)
        self._peripherals = Peripherals(
            settings, seams, self._supervisor, journal=journal, audit=audit, on_status=self._on_device
        )
        self._ticketed = {*settings.devices, "vision", *(COMPONENTS[camera] for camera in settings.vision.cameras)}
        self._tickets = Tickets(journal, origin, self._ticketed, self._on_tickets)
        self._health = Health(journal, origin, self._state, seams.usage)
        self._alarms = Alarms(journal, origin, self._platform_time, self._on_alarms)
        journal.watch_renewals(self._on_renewal)
        self._commands = Commands(
            journal,
            origin,
            self._platform_time,
            on_announced=self._on_announced,
            on_sharing=self._on_sharing,
            on_payment=self._on_payment,
        )
        self._channel = Channel(
            settings.platform,
            seams.uplink,
            enrolment.keys,
            self._alarms.records,
            streams={self._alarms.records.stream: Urgency.ALARM}
            | {name: _URGENCY[stream] for stream, name in journal.streams.items()},
            commands=self._commands,
            boot_id=enrolment.boot_id,
            software_version=enrolment.software_version,
            wall_clock=seams.wall_clock,
            on_state=self._on_line,
            on_dropped=self._on_dropped,
        )
        self._office = Office(self._channel, journal, audit, origin, settings.platform.answer_seconds)
        self._matters = Matters(self._office, enrolment.keys.platform, self._state)
        settlers: dict[str, Settler] = {}
        self._settlements = SettlementDesk(self._office, settlers, self._on_settled)
        self._filing = Filing(self._office)
        settlers[FILE] = self._filing.settle
        self._registration = Registration(self._office)
        settlers[REGISTER] = self._registration.settle
        self._issuing = Issuing(self._office)
        settlers[ISSUE] = self._issuing.settle
        self._till = Till(self._office, self._settlements.look)
        settlers[CHARGE], settlers[REVERSE] = self._till.settle_charge, self._till.settle_reverse
        self._payment_days = DayBook(self._till, self._on_payments)
        hour = settings.payment.reconcile_hour
        self._keeper = PaymentKeeper(self._till, self._payment_days, hour)
        terminal = settings.platform.terminal_id
        self._grants = GrantBook(self._office, enrolment.keys.platform, terminal, self._state, self._best_time)
        ledger = Ledger(self._office, self._settlements.look, self._best_time)
        self._sharing = Sharing(self._grants, ledger, DataSets(self._grants, ledger), terminal)
        settlers[USE] = ledger.settle

    async def run(self, listeners: Listeners, roles: Roles, notifier: Notifier, stop: asyncio.Event) -> None:
        """Serve until `stop`, then stop in order."""
        settings = self._settings
        await self._matters.open()
        await self._grants.open()
        await self._commands.open()
        async with asyncio.TaskGroup() as group:
            sessions = Sessions(
                group,
                self._seams.verifier,
                self._audit,
                Clearance(places(self._peripherals.drivers), self._audit, settings.session.clear_seconds),
                idle_seconds=settings.session.idle_seconds,
                longest_seconds=settings.session.longest_seconds,
                warn_seconds=settings.session.warn_seconds,
                on_state=self._on_session,
            )
            self._on_session(SessionState.CLOSED)
            previews = Previews(self._seams.cameras, settings.vision.cameras, roles, self._audit)
            server = ApiServer(self._terminal(sessions, previews), roles, settings.api.line_limit_bytes)
            self._supervisor.start(group, "tickets", self._tickets.run)
            self._supervisor.start(group, "alarms", self._alarms.run)
            self._supervisor.start(group, "telemetry", self._health.run)
            self._seams.cameras.watch(self._on_camera)
            self._seams.watch_egress(lambda what: self._alarms.sound(f"egress.{what}", "egress"))
            self._supervisor.start(group, "vision", self._seams.verifier.run)
            await self._peripherals.start(group)
            self._supervisor.start(
                group, "platform", self._channel.run, longest_pause_seconds=LONGEST_LINE_PAUSE_SECONDS
            )
            self._supervisor.start(group, "announcements", self._commands.run)
            self._supervisor.start(group, "matters", self._matters.run)
            self._supervisor.start(group, "grants", self._sharing.run)
            self._supervisor.start(group, "settlement", self._settlements.run)
            self._supervisor.start(group, "payments", self._keeper.run)
            serving = [
                group.create_task(server.serve(listeners.api), name="api"),
                group.create_task(previews.serve(listeners.previews), name="previews"),
            ]
            telling = [
                group.create_task(self._tell_status(notifier), name="status"),
                group.create_task(notifier.feed_watchdog(), name="watchdog"),
            ]
            notifier.ready()
            log.info("daemon_ready", version=self._enrolment.software_version, rig=settings.rig)
            await stop.wait()
            log.info("daemon_stopping")
            notifier.stopping()
            await sessions.stop()
            await server.stop()
            for task in serving:
                task.cancel()
            await self._drain()
            await self._supervisor.stop()
            for task in telling:
                task.cancel()
        log.info("daemon_stopped")

    def _terminal(self, sessions: Sessions, previews: Previews) -> Terminal:
        settings, verifier = self._settings, self._seams.verifier
        identity = IdentityService(
            office=self._office,
            reader=self._peripherals.drivers["idcard"],
            verifier=verifier,
            sensor=self._peripherals.drivers.get("fingerprint"),
            platform_key=self._enrolment.keys.platform,
            terminal=settings.platform.terminal_id,
            card_wait_seconds=settings.idcard.card_wait_seconds,
            verify_seconds=settings.vision.verify_seconds,
            finger_wait_seconds=settings.fingerprint.finger_wait_seconds if settings.fingerprint is not None else 0.0,
        )
        return Terminal(
            version=self._enrolment.software_version,
            boot_id=self._enrolment.boot_id,
            rig=settings.rig,
            preview_socket=settings.api.preview_socket,
            state=self._state,
            sessions=sessions,
            consent=ConsentService(self._office, identity.alternatives),
            identity=identity,
            certificate=CertificateService(
                office=self._office,
                issuing=self._issuing,
                verifier=verifier,
                printer=self._peripherals.drivers["printer"],
                seal_key=self._enrolment.seal_key,
                width_dots=settings.printer.width_dots,
                dots_per_inch=settings.printer.dots_per_inch,
            ),
            document=DocumentService(
                cameras=self._seams.cameras, journal=self._journal, audit=self._audit, origin=self._origin
            ),
            matters=self._matters,
            applications=Applications(self._office, self._matters, self._filing),
            payments=Payments(
                self._office, self._matters, self._till, self._card_counter(), settings.payment.scan_seconds
            ),
            slips=Slips(
                self._office,
                Press(
                    self._journal,
                    self._peripherals.drivers["printer"],
                    settings.printer.width_dots,
                    settings.printer.dots_per_inch,
                ),
                settings.platform.terminal_id,
            ),
            payment_days=self._payment_days,
            progress=ProgressService(self._office),
            hotline=Hotline(self._office, self._registration, settings.districts),
            sharing=self._sharing,
            previews=previews,
            presence=Presence(self._state, sessions, settings.api.ui_silence_seconds),
            power=self._seams.power,
            audit=self._audit,
            peripherals=self._peripherals,
            tickets=self._tickets,
            trials=Trials(self._journal, self._channel),
            alarms=self._alarms,
            terminal_id=settings.platform.terminal_id,
            wall_clock=self._seams.wall_clock,
        )

    def _card_counter(self) -> CardCounter | None:
        """Return the counter for bank cards, where this terminal has the devices for it."""
        reader, pad = self._settings.cardreader, self._settings.pinpad
        if reader is None or pad is None:
            return None
        return CardCounter(
            till=self._till,
            reader=self._peripherals.drivers["cardreader"],
            pad=self._peripherals.drivers["pinpad"],
            algorithm=pad.algorithm,
            pin_slot=pad.pin_key,
            card_wait_seconds=reader.card_wait_seconds,
            entry_seconds=pad.entry_seconds,
        )

    def _on_device(self, device: str, status: DeviceStatus) -> None:
        self._devices[device] = status
        self._publish(device)

    def _on_unit(self, unit: str, state: UnitState, code: str | None) -> None:
        self._units[unit] = (state, code)
        self._publish(unit)
        if unit == "vision":
            for name in self._cameras:
                self._publish_camera(name)

    def _on_camera(self, status: CameraStatus) -> None:
        name = COMPONENTS[status.camera]
        self._cameras[name] = device_status(status)
        self._publish_camera(name)

    def _publish(self, name: str) -> None:
        """Put a component on the board: a device's own word, unless its driver is dead of a bug or could not say so."""
        unit, code = self._units.get(name, (UnitState.STOPPED, None))
        status = self._devices.get(name)
        dead = unit is not UnitState.RUNNING
        if status is None or (dead and (status.state in _NOT_AT_FAULT or code == "internal")):
            status = DeviceStatus(_UNIT_STATES[unit], code, status.identity if status else None)
        state, details = status.state, status.details
        if status.code in {f"{name}.wrong_device", f"{name}.swapped"}:
            state = DeviceState.POTENTIAL_FRAUD
        if state in _FRAUD and status.code is not None:
            self._alarms.sound(status.code, name)
        if unit is UnitState.GAVE_UP:
            details = {**details, "gave_up": True}
        self._state.set(name, Component(state, status.code, status.identity, details))
        if name in self._ticketed and state is not DeviceState.STARTING and unit is not UnitState.STOPPED:
            self._tickets.heard(name, None if state in _HEALTHY else status.code or f"{name}.{state}")

    def _publish_camera(self, name: str) -> None:
        """Put a camera on the board. One of which nothing is known is as the vision process is, without a ticket."""
        status = self._cameras[name]
        if status is None:
            unit, code = self._units.get("vision", (UnitState.STARTING, None))
            state = DeviceState.STARTING if unit is UnitState.RUNNING else _UNIT_STATES[unit]
            self._state.set(name, Component(state, code))
        else:
            self._state.set(name, Component(status.state, status.code, details=status.details))
            self._tickets.heard(name, status.code)

    def _on_tickets(self, tickets: int, late: int) -> None:
        self._devices["tickets"] = DeviceStatus(DeviceState.ONLINE, details={"open": str(tickets), "late": str(late)})
        self._publish("tickets")

    def _on_alarms(self, alarms: int, late: int) -> None:
        self._devices["alarms"] = DeviceStatus(DeviceState.ONLINE, details={"open": str(alarms), "late": str(late)})
        self._publish("alarms")

    def _on_settled(self, kind: str, outcome: Settlement) -> None:
        """Say that something was settled; whoever waits for a result asks for it by its number."""
        self._settled += 1
        details: dict[str, str | bool] = {"settled": str(self._settled), "last": kind, "outcome": outcome}
        self._devices["settlement"] = DeviceStatus(DeviceState.ONLINE, details=details)
        self._publish("settlement")
        self._keeper.look()

    async def _on_renewal(self, stream: Stream) -> None:
        """Say that the journal went back to an older image (I6, T23): as an alarm, in the audit log, as an event."""
        self._alarms.sound(WENT_BACK, "journal")
        await self._audit.note("journal_went_back", actor="platform", details={"stream": stream})
        told = event(self._origin, secrets.token_hex(8), WENT_BACK, outcome="done", code=None, seconds=0.0)
        try:
            await self._journal.append(told)
        except JournalError as error:
            log.error("outcome_not_journaled", code=error.code)

    def _on_payments(self, differences: int, returning: int) -> None:
        details: dict[str, str | bool] = {"differences": str(differences), "returning": str(returning)}
        self._devices["payments"] = DeviceStatus(DeviceState.ONLINE, details=details)
        self._publish("payments")

    def _on_dropped(self, code: str) -> None:
        if code in _MEDDLED:
            self._alarms.sound(code, "line")

    def _on_line(self, line: LineState) -> None:
        if line.code in _MEDDLED:
            self._alarms.sound(line.code, "line")
        off: dict[str, str | bool] = (
            {} if line.clock_off_seconds is None else {"clock_off_seconds": str(line.clock_off_seconds)}
        )
        state = DeviceState.ONLINE if line.connected else DeviceState.OFFLINE
        self._devices["platform"] = DeviceStatus(state, line.code, details=off)
        self._publish("platform")

    def _on_announced(self, announced: Sequence[Announcement]) -> None:
        """Hand on what the platform announced: a catalogue of matters, and the next maintenance."""
        for announcement in announced:
            if isinstance(announcement, CatalogueAnnouncement):
                self._matters.announced(announcement)
        windows = [one for one in announced if isinstance(one, MaintenanceWindow)]
        if windows:
            window = min(windows, key=lambda one: one.begins_unix)
            details: dict[str, str | bool] = {
                "begins_unix": str(window.begins_unix),
                "ends_unix": str(window.ends_unix),
            }
            self._state.set("maintenance", Component("announced", details=details))
        elif self._state.get("maintenance") is not None:
            self._state.set("maintenance", Component("none"))

    def _platform_time(self) -> float | None:
        return self._channel.platform_time()

    def _best_time(self) -> float:
        """Return seconds since 1970 on the platform's clock, on the terminal's own while that is not known."""
        known = self._platform_time()
        return self._seams.wall_clock() if known is None else known

    def _on_sharing(self) -> None:
        self._grants.changed()

    def _on_payment(self, order: str) -> None:
        self._keeper.ended(order)

    def _on_session(self, state: SessionState) -> None:
        self._state.set("session", Component("none" if state is SessionState.CLOSED else state))

    async def _tell_status(self, notifier: Notifier) -> None:
        """Keep `systemctl status` in step with the board."""
        while True:
            changes = self._state.subscribe()
            try:
                while True:
                    notifier.status(_line(self._state.full()))
                    await changes.next()
            except TooSlow:
                continue
            finally:
                changes.close()

    async def _drain(self) -> None:
        """Give the platform a moment to receipt the last records; what is left waits in the journal (T12)."""
        if not self._channel.connected:
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._alarms.records.delivered()
        except TimeoutError:
            log.warning("outbox_not_drained")


def _line(state: dict[str, Component]) -> str:
    return ", ".join(
        f"{name} {component.state}" + (f" ({component.code})" if component.code else "")
        for name, component in sorted(state.items())
    )
