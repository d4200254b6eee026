"""The daemon: built from settings and seams, kept alive in one task tree, stopped in order (rule 4)."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from devices.status import DeviceState, DeviceStatus
from runtime.alarms import Alarms
from runtime.api.listen import ClientListener, PreviewListener
from runtime.api.preview import Previews
from runtime.api.roles import Roles
from runtime.api.server import ApiServer
from runtime.api.table import Terminal
from runtime.audit import Audit
from runtime.cameras import COMPONENTS, device_status
from runtime.commands import Announcement, Commands
from runtime.config import Settings
from runtime.enrolment import Enrolment
from runtime.health import Health
from runtime.journal import Journal
from runtime.messages import CatalogueAnnouncement, MaintenanceWindow, Stream
from runtime.notify import Notifier
from runtime.peripherals import Peripherals
from runtime.seams import Seams
from runtime.services.certificate import CertificateService, settle_prints
from runtime.services.document import DocumentService
from runtime.services.identity import IdentityService
from runtime.services.steps import Origin
from runtime.session import Sessions, SessionState
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
    (`crypto.self_test`), JournalError, AuditError, RoleError.
    """
    sm.self_test()
    sm2.self_test()
    roles = Roles(settings.api.ui_users, settings.api.operator_users)
    origin = Origin(enrolment.boot_id, settings.rig, seams.wall_clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(seams.journal.close)
        journal = Journal(seams.journal, seams.wall_clock)
        await journal.open()
        if settled := await settle_prints(journal, origin):
            log.warning("prints_settled_as_unknown", count=settled)
        audit = Audit(seams.journal, settings.audit_file, seams.wall_clock)
        about: dict[str, str | int] = {"version": enrolment.software_version, "boot_id": enrolment.boot_id}
        await audit.append("daemon_started", actor="daemon", details=about | {"rig": int(settings.rig)})
        daemon = _Daemon(settings, seams, enrolment=enrolment, journal=journal, audit=audit, origin=origin)
        await daemon.run(listeners, roles, notifier, stop)
        await audit.note("daemon_stopped", actor="daemon")
        await journal.checkpoint()


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
        self._supervisor = Supervisor(seams.jitter, self._on_unit)
        self._peripherals = Peripherals(
            settings, seams, self._supervisor, journal=journal, audit=audit, on_status=self._on_device
        )
        self._ticketed = {*settings.devices, "vision", *(COMPONENTS[camera] for camera in settings.vision.cameras)}
        self._tickets = Tickets(journal, origin, self._ticketed, self._on_tickets)
        self._health = Health(journal, origin, self._state, seams.usage)
        self._alarms = Alarms(journal, origin, self._on_alarms)
        self._commands = Commands(journal, origin, self._on_announced)
        self._channel = Channel(
            settings.platform,
            seams.uplink,
            enrolment.keys,
            journal,
            streams={name: _URGENCY[stream] for stream, name in journal.streams.items()},
            commands=self._commands,
            boot_id=enrolment.boot_id,
            software_version=enrolment.software_version,
            wall_clock=seams.wall_clock,
            on_state=self._on_line,
            on_dropped=self._on_dropped,
        )

    async def run(self, listeners: Listeners, roles: Roles, notifier: Notifier, stop: asyncio.Event) -> None:
        """Serve until `stop`, then stop in order."""
        settings = self._settings
        await self._commands.open()
        async with asyncio.TaskGroup() as group:
            sessions = Sessions(
                group,
                self._seams.verifier,
                self._audit,
                idle_seconds=settings.session.idle_seconds,
                longest_seconds=settings.session.longest_seconds,
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
        return Terminal(
            version=self._enrolment.software_version,
            boot_id=self._enrolment.boot_id,
            rig=settings.rig,
            preview_socket=settings.api.preview_socket,
            state=self._state,
            sessions=sessions,
            identity=IdentityService(
                reader=self._peripherals.drivers["idcard"],
                verifier=verifier,
                journal=self._journal,
                audit=self._audit,
                origin=self._origin,
                card_wait_seconds=settings.idcard.card_wait_seconds,
                verify_seconds=settings.vision.verify_seconds,
            ),
            certificate=CertificateService(
                platform=self._channel,
                verifier=verifier,
                printer=self._peripherals.drivers["printer"],
                journal=self._journal,
                audit=self._audit,
                origin=self._origin,
                seal_key=self._enrolment.seal_key,
                answer_seconds=settings.platform.answer_seconds,
                width_dots=settings.printer.width_dots,
                dots_per_inch=settings.printer.dots_per_inch,
            ),
            document=DocumentService(
                cameras=self._seams.cameras, journal=self._journal, audit=self._audit, origin=self._origin
            ),
            previews=previews,
            power=self._seams.power,
            audit=self._audit,
            peripherals=self._peripherals,
            tickets=self._tickets,
            trials=Trials(self._journal, self._channel),
            alarms=self._alarms,
            terminal_id=settings.platform.terminal_id,
            wall_clock=self._seams.wall_clock,
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
        """Put on the board what the platform announced: the catalogue's version, and the next maintenance."""
        for announcement in announced:
            if isinstance(announcement, CatalogueAnnouncement):
                version: dict[str, str | bool] = {"version": str(announcement.catalogue_version)}
                self._state.set("catalogue", Component("announced", details=version))
        windows = [one for one in announced if isinstance(one, MaintenanceWindow)]
        if windows:
            window = min(windows, key=lambda one: one.begins_unix)
            times: dict[str, str | bool] = {"begins_unix": str(window.begins_unix), "ends_unix": str(window.ends_unix)}
            self._state.set("maintenance", Component("announced", details=times))

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
                await self._journal.delivered()
        except TimeoutError:
            log.warning("outbox_not_drained")


def _line(state: dict[str, Component]) -> str:
    return ", ".join(
        f"{name} {component.state}" + (f" ({component.code})" if component.code else "")
        for name, component in sorted(state.items())
    )
