"""The daemon: built from settings and seams, kept alive in one task tree, stopped in order (rule 4)."""

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial

import structlog

from devices.status import DeviceState, DeviceStatus
from runtime.alarms import Alarms
from runtime.api.listen import Listeners
from runtime.api.presence import Presence
from runtime.api.preview import Previews
from runtime.api.roles import Role, Roles
from runtime.api.server import ApiServer
from runtime.api.table import Terminal
from runtime.approvals import Approvals
from runtime.audit import Audit
from runtime.audit_seal import Seals
from runtime.business import build, card_counter
from runtime.cameras import COMPONENTS
from runtime.clearance import Clearance, places
from runtime.commands import Announcement, Commands
from runtime.components import Components
from runtime.config import Settings
from runtime.enrolment import Enrolment
from runtime.health import Health
from runtime.journal import Journal, JournalError
from runtime.lockdown import Lockdown
from runtime.messages import CatalogueAnnouncement, MaintenanceWindow, Stream
from runtime.messages.audit import RemoteWindow, StaffGrant
from runtime.notify import Notifier
from runtime.peripherals import Peripherals
from runtime.power import PowerKeeper
from runtime.power_plan import Means
from runtime.seams import Seams
from runtime.services.applications import Applications
from runtime.services.certificate import CertificateService
from runtime.services.consent import ConsentService
from runtime.services.document import DocumentService
from runtime.services.hotline import Hotline
from runtime.services.identity import IdentityService
from runtime.services.office import Office, Settlement
from runtime.services.payment import Payments
from runtime.services.payment_slip import Slips
from runtime.services.printing import Press
from runtime.services.progress import ProgressService
from runtime.services.steps import Origin, event
from runtime.session import SessionState
from runtime.sessions import Sessions
from runtime.staff import Staff
from runtime.state import Component, StateBoard
from runtime.storage import find_lost_intents, keep_backup
from runtime.supervisor import Supervisor
from runtime.tamper import Tamper
from runtime.tickets import Tickets
from runtime.trial import Trials
from transport.channel import Channel, LineState
from transport.gate import Urgency

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
_MEDDLED = {"envelope.forged", "envelope.replayed", "envelope.reordered", "key.bad_signature"}
"""Messages that only somebody at the broker who is not the platform sends (T23)."""


class Daemon:
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
        roles: Roles,
    ) -> None:
        self._settings = settings
        self._seams = seams
        self._enrolment = enrolment
        self._journal = journal
        self._audit = audit
        self._origin = origin
        self._roles = roles
        self._state = StateBoard()
        self._settled = 0
        ticketed = {*settings.devices, "vision", *(COMPONENTS[camera] for camera in settings.vision.cameras)}
        self._components = show = Components(self._state, ticketed, self)
        self._supervisor = Supervisor(seams.jitter, show.unit)
        self._tickets = Tickets(
            journal, origin, ticketed, lambda tickets, late: show.figures("tickets", open=tickets, late=late)
        )
        self._health = Health(journal, origin, self._state, seams.usage)
        self._alarms = Alarms(
            journal, origin, self._platform_time, lambda alarms, late: show.figures("alarms", open=alarms, late=late)
        )
        sound = self._alarms.sound
        audit.watch(sound)
        self._seals = Seals(
            audit,
            journal,
            sign=enrolment.keys.identity.sign,
            terminal=settings.platform.terminal_id,
            origin=origin,
            platform_time=self._platform_time,
            sound=sound,
        )
        self._staff = Staff(
            roles,
            is_granted=settings.api.staff == "granted",
            terminal=settings.platform.terminal_id,
            platform_key=enrolment.keys.platform,
            now=self._staff_time,
            platform_time=self._platform_time,
            audit=audit,
            board=self._state,
            sound=sound,
        )
        self._lockdown = Lockdown(
            settings.security, journal, audit, origin=origin, board=self._state, alarms=self._alarms
        )
        self._tamper = Tamper(settings, self._lockdown, seams.hotplug.find, self._platform_time, sound)
        self._peripherals = Peripherals(
            settings,
            seams,
            self._supervisor,
            journal=journal,
            audit=audit,
            on_status=self._on_device,
            on_usb=self._tamper.usb.heard,
        )
        journal.watch_renewals(self._on_renewal)
        self._commands = Commands(
            journal,
            origin,
            self._platform_time,
            on_announced=self._on_announced,
            on_sharing=self._on_sharing,
            on_payment=self._on_payment,
            staff=self._staff,
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
        self._business = build(
            self._office,
            self._state,
            enrolment,
            terminal=settings.platform.terminal_id,
            reconcile_hour=settings.payment.reconcile_hour,
            now=self._best_time,
            on_settled=self._on_settled,
            on_payments=lambda differences, returning: show.figures(
                "payments", differences=differences, returning=returning
            ),
            on_refused=self._tamper.catalogue,
        )
        devices = self._peripherals.drivers
        ups = devices.get("ups")
        means = Means(journal, self._alarms, lambda: self._channel.connected, self._forget, seams.power, ups)
        self._power = PowerKeeper(
            settings.power, devices.values(), ups, audit=audit, origin=origin, board=self._state, means=means
        )

    async def run(self, listeners: Listeners, notifier: Notifier, stop: asyncio.Event) -> None:
        """Serve until `stop`, then stop in order."""
        settings, roles = self._settings, self._roles
        await self._seals.open()
        await self._lockdown.open()
        await self._alarms.open()
        await self._business.open()
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
            self._lockdown.guard(sessions)
            self._power.guard(sessions, stop.set)
            previews = Previews(self._seams.cameras, settings.vision.cameras, roles, self._audit)
            server = ApiServer(self._terminal(sessions, previews), roles, settings.api.line_limit_bytes)
            self._staff.guard(server.end)
            self._supervisor.start(group, "staff", self._staff.run)
            self._supervisor.start(group, "audit", self._seals.run)
            self._supervisor.start(group, "tickets", self._tickets.run)
            self._supervisor.start(group, "alarms", self._alarms.run)
            self._supervisor.start(group, "locks", self._lockdown.run)
            self._supervisor.start(group, "power_keeper", self._power.run)
            self._supervisor.start(group, "tamper", self._tamper.settling.run)
            self._supervisor.start(
                group, "routes", lambda ready: self._seams.routes.run(ready, self._tamper.routes.heard)
            )
            self._supervisor.start(group, "telemetry", self._health.run)
            self._seams.cameras.watch(self._components.camera)
            self._seams.watch_egress(lambda what: self._tamper.once("egress", f"egress.{what}"))
            self._supervisor.start(group, "vision", self._seams.verifier.run)
            await self._peripherals.start(group)
            self._supervisor.start(
                group, "platform", self._channel.run, longest_pause_seconds=LONGEST_LINE_PAUSE_SECONDS
            )
            self._supervisor.start(group, "announcements", self._commands.run)
            self._supervisor.start(group, "matters", self._business.matters.run)
            self._supervisor.start(group, "grants", self._business.sharing.run)
            self._supervisor.start(group, "settlement", self._business.settlements.run)
            self._supervisor.start(group, "payments", self._business.payment_keeper.run)
            self._supervisor.start(group, "lost-intents", partial(find_lost_intents, self._office))
            self._supervisor.start(group, "backup", partial(keep_backup, self._journal, lambda: sessions.occupied))
            serving = [
                group.create_task(server.serve(listeners.api), name="api"),
                group.create_task(previews.serve(listeners.previews), name="previews"),
            ]
            telling = [
                group.create_task(notifier.follow(self._state), name="status"),
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
        settings, verifier, business = self._settings, self._seams.verifier, self._business
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
                issuing=business.issuing,
                verifier=verifier,
                printer=self._peripherals.drivers["printer"],
                seal_key=self._enrolment.seal_key,
                width_dots=settings.printer.width_dots,
                dots_per_inch=settings.printer.dots_per_inch,
            ),
            document=DocumentService(
                cameras=self._seams.cameras, journal=self._journal, audit=self._audit, origin=self._origin
            ),
            matters=business.matters,
            applications=Applications(self._office, business.matters, business.filing),
            payments=Payments(
                self._office,
                business.matters,
                business.till,
                card_counter(settings, self._peripherals.drivers, business.till),
                settings.payment.scan_seconds,
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
            payment_days=business.payment_days,
            progress=ProgressService(self._office),
            hotline=Hotline(self._office, business.registration, settings.districts),
            sharing=business.sharing,
            previews=previews,
            presence=Presence(self._state, sessions, settings.api.ui_silence_seconds),
            power=self._seams.power,
            audit=self._audit,
            peripherals=self._peripherals,
            tickets=self._tickets,
            trials=Trials(self._journal, self._channel),
            alarms=self._alarms,
            lockdown=self._lockdown,
            staff=self._staff,
            approvals=Approvals(self._audit, lambda uid: Role.OPERATOR in self._staff.roles(uid)),
            terminal_id=settings.platform.terminal_id,
            wall_clock=self._seams.wall_clock,
        )

    def at_fault(self, component: str, code: str | None) -> None:
        """Open or close a ticket (runtime.components.Listener)."""
        self._tickets.heard(component, code)

    def meddled_with(self, component: str, code: str | None) -> None:
        """Hand on what a component was found to be (runtime.components.Listener)."""
        self._tamper.meddled_with(component, code)

    def _on_device(self, name: str, status: DeviceStatus) -> None:
        self._components.device(name, status)
        self._tamper.device(name, status)
        if name == "ups":
            self._power.heard()

    def _on_settled(self, kind: str, outcome: Settlement) -> None:
        """Say that something was settled; whoever waits for a result asks for it by its number."""
        self._settled += 1
        self._components.figures("settlement", settled=self._settled, last=kind, outcome=outcome)
        self._business.payment_keeper.look()

    async def _on_renewal(self, stream: Stream) -> None:
        """Say that the journal went back to an older image (I6, T23): as an alarm, in the audit log, as an event."""
        self._tamper.once("journal", WENT_BACK)
        await self._audit.note("journal_went_back", actor="platform", details={"stream": stream})
        told = event(self._origin, secrets.token_hex(8), WENT_BACK, outcome="done", code=None, seconds=0.0)
        try:
            await self._journal.append(told)
        except JournalError as error:
            log.error("outcome_not_journaled", code=error.code)

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
        self._components.device("platform", DeviceStatus(state, line.code, details=off))

    def _on_announced(self, announced: Sequence[Announcement]) -> None:
        """Hand on what the platform announced: a catalogue of matters, and the next maintenance."""
        for announcement in announced:
            if isinstance(announcement, CatalogueAnnouncement):
                self._business.matters.announced(announcement)
        self._staff.announced([one for one in announced if isinstance(one, (StaffGrant, RemoteWindow))])
        windows = [one for one in announced if isinstance(one, MaintenanceWindow)]
        self._tamper.announced(windows)
        if windows:
            window = min(windows, key=lambda one: one.begins_unix)
            ends = {"begins_unix": str(window.begins_unix), "ends_unix": str(window.ends_unix)}
            self._state.set("maintenance", Component("announced", details={**ends}))
        elif self._state.get("maintenance") is not None:
            self._state.set("maintenance", Component("none"))

    def _platform_time(self) -> float | None:
        return self._channel.platform_time()

    def _best_time(self) -> float:
        """Return seconds since 1970 on the platform's clock, on the terminal's own while that is not known."""
        known = self._platform_time()
        return self._seams.wall_clock() if known is None else known

    def _staff_time(self) -> float:
        """Return the best known time; while the platform's is not known, never one before the last seal that had it."""
        known = self._platform_time()
        return max(self._seals.known_time, self._seams.wall_clock()) if known is None else known

    def _on_sharing(self) -> None:
        self._business.grants.changed()

    def _on_payment(self, order: str) -> None:
        self._business.payment_keeper.ended(order)

    def _on_session(self, state: SessionState) -> None:
        self._state.set("session", Component("none" if state is SessionState.CLOSED else state))
        self._power.served(occupied=state is not SessionState.CLOSED)

    async def _forget(self) -> None:
        """Wipe the identity key, and stop what holds other keys or pictures: the line and the vision process."""
        self._enrolment.keys.identity.wipe()
        await self._supervisor.stop("platform", "vision")

    async def _drain(self) -> None:
        """Give the platform a moment to receipt the last records; what is left waits in the journal (T12)."""
        if not self._channel.connected:
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._alarms.records.delivered()
        except TimeoutError:
            log.warning("outbox_not_drained")
