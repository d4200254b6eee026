"""One life of the daemon: what is looked at before it serves, and what is done when it has stopped."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from runtime.alarms import Alarms
from runtime.api.listen import Listeners
from runtime.api.roles import Roles
from runtime.audit import Audit, AuditError
from runtime.audit_chain import LOST
from runtime.config import Settings
from runtime.daemon import Daemon
from runtime.enrolment import Enrolment
from runtime.journal import Journal, JournalError
from runtime.lockdown import Cause, locking
from runtime.notify import Notifier
from runtime.seams import Seams
from runtime.services.printing import settle_prints
from runtime.services.steps import Origin
from runtime.storage import DAMAGED, STOP_SECONDS, tell_rebuilds
from transport import sm, sm2

log = structlog.get_logger(__name__)


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
        await journal.open(notifier.starting)
        audit = Audit(seams.journal, settings.audit_file, seams.wall_clock)
        alarms = Alarms(journal, origin, lambda: None, lambda *_: None)
        if (lines_lost := await audit.missing()) is not None:
            await alarms.sound_at_once(lines_lost, "audit")  # first: the line is what the next start finds in order
            await audit.note(LOST, actor="daemon", details={"code": lines_lost})
        await _note_start(settings, enrolment, journal, audit, origin)
        lock = locking(settings.security, Cause("journal_damage", DAMAGED, "journal"), seams.wall_clock())
        await tell_rebuilds(journal, audit, alarms, origin, lock)
        journal.watch_damage(stop.set)
        if enrolment.refusal is not None:
            await alarms.sound_at_once(enrolment.refusal.code, "enrolment")
            await audit.note("start_refused", actor="daemon", details={"code": enrolment.refusal.code})
            raise enrolment.refusal
        daemon = Daemon(settings, seams, enrolment=enrolment, journal=journal, audit=audit, origin=origin, roles=roles)
        await daemon.run(listeners, notifier, stop)
        await audit.note("daemon_stopped", actor="daemon")
        await journal.back_up(seconds=STOP_SECONDS)
        await journal.checkpoint()
        if journal.damage is not None:
            raise journal.damage


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
        about |= {"rig": int(settings.rig), "staff": settings.api.staff}
        await audit.append("daemon_started", actor="daemon", details=about)
    except AuditError as error:
        if not error.retry:
            raise
        log.error("audit_line_lost", audit_event="daemon_started", code=error.code, reason=str(error))
