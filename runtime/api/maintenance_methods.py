"""The methods that look after the machine, for the roles `operator` and `tester`; none reaches a session (T21)."""

import asyncio

from runtime.alarm_report import draft
from runtime.alarms import UnknownAlarm
from runtime.api.roles import Role
from runtime.api.shapes import (
    AlarmDraft,
    AlarmList,
    AlarmWanted,
    DeviceAccepted,
    Nothing,
    OfDevice,
    TicketStep,
    TrialAnswered,
    TrialCallWanted,
    TrialRecorded,
    TrialRecordWanted,
)
from runtime.api.table import Caller, Method, Terminal
from runtime.session import SessionError
from runtime.supervisor import error_code
from runtime.tickets import Ticket, TicketList

POWER_SECONDS = 15.0
"""What the host may take to accept the order to power off."""


async def _power_off(terminal: Terminal, caller: Caller, _params: Nothing) -> Nothing:
    if terminal.sessions.occupied:
        raise SessionError(
            "session.busy", "a citizen is being served", advice="wait until the session has ended", retry=True
        )
    actor = caller.actor
    await terminal.audit.append("power_off_ordered", actor=actor)
    try:
        async with asyncio.timeout(POWER_SECONDS):
            await terminal.power.power_off()
    except Exception as error:
        await terminal.audit.note("power_off_failed", actor=actor, details={"code": error_code(error)})
        raise
    return Nothing()


async def _retry(terminal: Terminal, caller: Caller, params: OfDevice) -> Nothing:
    await terminal.peripherals.retry(params.device, actor=caller.actor)
    return Nothing()


async def _accept(terminal: Terminal, caller: Caller, params: DeviceAccepted) -> Nothing:
    await terminal.peripherals.accept(params.device, params.identity, actor=caller.actor)
    return Nothing()


async def _tickets(terminal: Terminal, _caller: Caller, _params: Nothing) -> TicketList:
    return await terminal.tickets.book()


async def _answer(terminal: Terminal, caller: Caller, params: TicketStep) -> Ticket:
    ticket = await terminal.tickets.answer(params.ticket, params.step)
    details = {"ticket": params.ticket, "step": params.step, "device": ticket.device}
    await terminal.audit.note("ticket_answered", actor=caller.actor, details=details)
    return ticket


async def _alarms(terminal: Terminal, _caller: Caller, _params: Nothing) -> AlarmList:
    return AlarmList(await terminal.alarms.list())


async def _draft(terminal: Terminal, _caller: Caller, params: AlarmWanted) -> AlarmDraft:
    for alarm in await terminal.alarms.list():
        if alarm.alarm == params.alarm:
            text = draft(alarm, terminal=terminal.terminal_id, rig=terminal.rig, now=terminal.wall_clock())
            return AlarmDraft(text)
    raise UnknownAlarm(f"there is no alarm {params.alarm}")


async def _record(terminal: Terminal, _caller: Caller, params: TrialRecordWanted) -> TrialRecorded:
    return TrialRecorded(await terminal.trials.record(params.id, params.digest, params.filler, params.stream))


async def _call(terminal: Terminal, _caller: Caller, params: TrialCallWanted) -> TrialAnswered:
    trip = await terminal.trials.call(
        params.id,
        filler_bytes=params.filler_bytes,
        answer_bytes=params.answer_bytes,
        deadline_seconds=params.deadline_seconds,
    )
    return TrialAnswered(trip.digest, trip.seconds)


METHODS = (
    Method(
        "terminal.power_off",
        Role.OPERATOR,
        Nothing,
        Nothing,
        _power_off,
        "Order the host to power off; `session.busy` while a citizen is served. It is audited.",
        ("session.busy", "power.refused", "power.unavailable", "power.unknown"),
    ),
    Method(
        "devices.retry",
        Role.OPERATOR,
        OfDevice,
        Nothing,
        _retry,
        "Try a device at once that gave up, waits for its next try, or was refused; one that runs is left alone. It is "
        "audited.",
        ("unit.unknown",),
    ),
    Method(
        "devices.accept",
        Role.OPERATOR,
        DeviceAccepted,
        Nothing,
        _accept,
        "Accept the device of this identity that was refused as `KIND.swapped`: from now on it is the expected one. It "
        "is audited.",
        ("unit.unknown", "device.not_swapped"),
        is_sensitive=True,
    ),
    Method(
        "tickets.list",
        Role.OPERATOR,
        Nothing,
        TicketList,
        _tickets,
        "The open tickets and the last closed ones, newest first, and the late answers of the year (T15).",
    ),
    Method(
        "tickets.answer",
        Role.OPERATOR,
        TicketStep,
        Ticket,
        _answer,
        "Stop one of a ticket's clocks; recovery closes a ticket by itself. It is audited.",
        ("ticket.unknown",),
    ),
    Method(
        "alarms.list",
        Role.OPERATOR,
        Nothing,
        AlarmList,
        _alarms,
        "Every alarm that waits for the platform's receipt and the last others, newest first, with its clock (T23).",
    ),
    Method(
        "alarms.draft",
        Role.OPERATOR,
        AlarmWanted,
        AlarmDraft,
        _draft,
        "The written report of an alarm in Chinese, for a person to complete and send within 30 min (T23).",
        ("alarm.unknown",),
    ),
    Method(
        "trial.record",
        Role.TESTER,
        TrialRecordWanted,
        TrialRecorded,
        _record,
        "Try the line with a record of bytes that mean nothing; they and their SM3 `digest` are Base64. The answer "
        "comes when the record is durable; the platform gets it in its turn and counts it by its `id`.",
        ("journal.write_failed",),
    ),
    Method(
        "trial.call",
        Role.TESTER,
        TrialCallWanted,
        TrialAnswered,
        _call,
        "Try the line with a call of random bytes, up to a scanned document's size: the answer comes with the "
        "platform's; `digest` is the SM3 of what went up, in Base64. `line.down` when the call certainly never left, "
        "`platform.no_answer` when nobody knows whether it arrived.",
        ("line.down", "platform.no_answer", "trial.altered"),
    ),
)
