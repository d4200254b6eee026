"""Devices in the running house: unplugged, replugged, given up, swapped, and the tickets of it (T1-T6, T15, H8)."""

import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs

from devices.config import Fingerprint
from devices.hotplug import UsbPort
from devices.status import DeviceState, DeviceStatus
from runtime import drivers, supervisor, tickets
from runtime.messages import SupervisionEvent, from_payload
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.memory import MemoryPort
from sim.virtual_time import run
from tests.runtime.house import OPERATOR_UID, Caller, House, Refusal, living, tell
from transport.payload import Payload

PORT = UsbPort("/dev/ttyUSB0", frozenset({"/dev/idcard"}), "0403:6001", "A1")


async def operator(house: House) -> Caller:
    caller = house.caller(OPERATOR_UID)
    await caller.call("events.subscribe")
    return caller


async def book(caller: Caller) -> list[dict]:
    return (await caller.call("tickets.list"))["tickets"]


async def state(caller: Caller, name: str) -> dict:
    return (await caller.call("terminal.status"))["state"][name]


def told(house: House) -> list[tuple[str, str | None, str | None]]:
    """Every supervision event of a ticket."""
    rows = house.rows("SELECT schema, version, body FROM records ORDER BY sequence")
    events = [from_payload(Payload(*row[:2], personal=False, body=row[2]), SupervisionEvent) for row in rows]
    return [(one.step, one.device, one.code) for one in events if one.step.startswith("ticket.")]


def test_unplugged_opens_a_ticket_and_replugged_closes_it(tmp_path, monkeypatch):
    """T15, T12: the clocks count from the fault; the udev event starts the driver at once; the log says it once."""

    async def story(house: House, _ui: Caller) -> None:
        care = await operator(house)
        house.hotplug.plug(PORT)
        house.reader_port.unplug()
        house.hotplug.unplug(PORT.node)
        began = house.loop.time()
        await asyncio.sleep(tickets.GRACE_SECONDS - 1)
        assert await book(care) == []
        await asyncio.sleep(2)
        (ticket,) = await book(care)
        assert (ticket["device"], ticket["code"], ticket["closed_at"]) == ("idcard", "idcard.offline", None)
        assert ticket["opened_at"] == pytest.approx(house.wall_clock() - 61, abs=0.1)
        assert ticket["clocks"]["answer"]["seconds"] == pytest.approx(61, abs=0.1)
        assert (await state(care, "tickets"))["details"] == {"open": "1", "late": "0"}
        answered = await care.call("tickets.answer", ticket=ticket["ticket"], step="answer")
        assert answered["clocks"]["answer"] | {"seconds": 0} == {
            "limit_seconds": 1800.0,
            "seconds": 0,
            "running": False,
            "late": False,
        }
        await asyncio.sleep(120)
        house.reader_port.plug()
        house.hotplug.plug(UsbPort("/dev/ttyUSB7", PORT.links, PORT.usb, PORT.serial))
        plugged = house.loop.time()
        await care.component("idcard", "online")
        assert house.loop.time() - plugged < 0.5
        await asyncio.sleep(0.1)
        (ticket,) = await book(care)
        assert ticket["closed_at"] == pytest.approx(house.wall_clock() - 0.1, abs=0.5)
        assert ticket["clocks"]["part"]["seconds"] == pytest.approx(plugged - began, abs=0.5)
        assert told(house) == [
            (step, "idcard", "idcard.offline") for step in ("ticket.opened", "ticket.answer", "ticket.closed")
        ]

    with capture_logs() as lines:
        tell(tmp_path, story, monkeypatch)
    about = [line for line in lines if "idcard" in {line.get("unit"), line.get("device")}]
    assert [line["event"] for line in about] == [
        "device_status",
        "unit_broken",
        "ticket_opened",
        "unit_healed",
        "ticket_closed",
    ]


def test_a_glitch_opens_no_ticket(tmp_path, monkeypatch):
    async def story(house: House, _ui: Caller) -> None:
        care = await operator(house)
        for _ in range(3):
            house.reader_port.unplug()
            await asyncio.sleep(20)
            house.reader_port.plug()
            await asyncio.sleep(120)
        assert await book(care) == []

    tell(tmp_path, story, monkeypatch)


def test_given_up_shows_and_an_operator_heals_it(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        care = await operator(house)
        house.printer_port.unplug()
        await asyncio.sleep(900)
        shown = await state(care, "printer")
        assert (shown["state"], shown["code"], shown["details"]) == ("offline", "printer.offline", {"gave_up": True})
        house.printer_port.plug()
        await asyncio.sleep(60)
        assert (await state(care, "printer"))["state"] == "offline"
        with pytest.raises(Refusal):
            await ui.call("devices.retry", device="printer")
        await care.call("devices.retry", device="printer")
        await care.component("printer", "online")
        assert "gave_up" not in (await state(care, "printer")).get("details", {})
        (ticket,) = await book(care)
        assert ticket["closed_at"] is not None
        assert '"device_retry_ordered"' in (tmp_path / "audit.jsonl").read_text()
        with pytest.raises(Refusal, match=r"unit\.unknown"):
            await care.call("devices.retry", device="toaster")

    tell(tmp_path, story, monkeypatch)


def test_a_swapped_device_is_refused_until_an_operator_accepts_it(tmp_path, monkeypatch):
    """H8, L7: nobody stated an identity, so the first one seen is the expected one."""

    async def story(house: House, ui: Caller) -> None:
        care = await operator(house)
        await asyncio.sleep(0.1)
        ((_, first),) = house.rows("SELECT * FROM identities WHERE device = 'idcard'")
        with pytest.raises(Refusal, match=r"device\.not_swapped"):
            await care.call("devices.accept", device="idcard", identity="05.01")
        house.reader_port.unplug()
        house.reader.exchange()
        house.reader_port.plug()
        await care.component("idcard", "potentialFraud")
        shown = await state(care, "idcard")
        assert shown["code"] == "idcard.swapped"
        assert shown["identity"] != first
        opened = house.reader_port.opened
        with pytest.raises(Refusal, match=r"session\.locked"):
            await ui.call("session.open")
        await asyncio.sleep(3600)
        assert house.reader_port.opened == opened
        (ticket,) = await book(care)
        assert ticket["clocks"]["answer"]["late"]
        with pytest.raises(Refusal, match=r"device\.not_swapped"):
            await care.call("devices.accept", device="idcard", identity=first)
        await care.call("devices.accept", device="idcard", identity=shown["identity"])
        await care.component("idcard", "online")
        assert house.rows("SELECT identity FROM identities WHERE device = 'idcard'") == [(shown["identity"],)]
        assert (await care.call("tickets.list"))["late_answers"] == 1
        assert '"device_accept_ordered"' in (tmp_path / "audit.jsonl").read_text()

    tell(tmp_path, story, monkeypatch)


def test_the_right_device_heals_a_swap_by_being_plugged_in(tmp_path, monkeypatch):
    async def story(house: House, _ui: Caller) -> None:
        care = await operator(house)
        await asyncio.sleep(0.1)
        house.reader_port.unplug()
        house.reader.exchange()
        house.reader_port.plug()
        await care.component("idcard", "potentialFraud")
        house.reader_port.unplug()
        house.reader.exchange()
        house.reader_port.plug()
        house.hotplug.plug(PORT)
        await care.component("idcard", "online")
        with pytest.raises(Refusal, match=r"device\.not_swapped"):
            await care.call("devices.accept", device="idcard", identity="05.01")

    tell(tmp_path, story, monkeypatch)


def test_a_printer_that_cannot_tell_who_it_is_yet_is_no_other_printer(tmp_path):
    """H8: GS I 68 waits behind an open cover; the number of the port is no other identity of the same printer."""

    async def main() -> None:
        house = House(tmp_path)
        house.hotplug.plug(UsbPort("/dev/ttyUSB1", frozenset({"/dev/printer"}), "0403:6001", "A20002"))
        house.printer.open_cover()
        async with living(house):
            care = await operator(house)
            await care.component("printer", "userError")
            house.printer.heal()
            house.printer_port.nudge()
            await care.component("printer", "online")
            await asyncio.sleep(60)
            assert (await state(care, "printer"))["identity"] == "VIRTUAL"
            assert (await state(care, "lockdown"))["state"] == "none"

    run(main())


def stated(house: House, **keys: str) -> None:
    section = msgspec.structs.replace(house.settings.idcard, **keys)
    house.settings = msgspec.structs.replace(house.settings, idcard=section)


def test_a_stated_identity_is_the_only_one_and_cannot_be_accepted_away(tmp_path):
    async def main() -> None:
        house = House(tmp_path)
        stated(house, identity="05.01-20160101-0000000000-0000000000")
        async with living(house):
            care = await operator(house)
            await care.component("idcard", "potentialFraud")
            assert (await state(care, "idcard"))["code"] == "idcard.wrong_device"
            with pytest.raises(Refusal, match=r"device\.not_swapped"):
                await care.call("devices.accept", device="idcard", identity="05.01")
            await care.call("devices.retry", device="idcard")
            await asyncio.sleep(5)
            assert (await state(care, "idcard"))["state"] == "potentialFraud"
            assert house.rows("SELECT * FROM identities WHERE device = 'idcard'") == []

    run(main())


def test_a_stated_usb_device_must_be_there_and_be_the_one(tmp_path):
    async def main() -> None:
        house = House(tmp_path)
        stated(house, usb="0403:6001")
        async with living(house):
            care = await operator(house)
            await asyncio.sleep(5)
            assert (await state(care, "idcard"))["code"] == "link.lost"
            house.hotplug.plug(UsbPort("/dev/ttyUSB0", PORT.links, "1a86:7523"))
            await care.component("idcard", "potentialFraud")
            assert house.reader_port.opened == 0
            house.hotplug.unplug("/dev/ttyUSB0")
            house.hotplug.plug(PORT)
            await care.component("idcard", "online")

    run(main())


def test_a_driver_that_hangs_at_its_start_is_a_fault_with_a_ticket(tmp_path, monkeypatch):
    """Rule 4, T15: a driver of another distribution may wait without a deadline."""

    class Hanging:
        status = DeviceStatus(DeviceState.STARTING)

        async def run(self, ready) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        house = House(tmp_path)
        house.settings = msgspec.structs.replace(house.settings, fingerprint=Fingerprint(port="/dev/fingerprint"))
        load = drivers.load
        monkeypatch.setattr(
            drivers, "load", lambda kind, name: (lambda *_: Hanging()) if kind == "fingerprint" else load(kind, name)
        )
        async with living(house):
            care = await operator(house)
            await asyncio.sleep(600)
            (ticket,) = await book(care)
            assert (ticket["device"], ticket["code"]) == ("fingerprint", "link.no_answer")
            assert (await state(care, "fingerprint"))["state"] == "offline"

    run(main())


def test_every_configured_device_is_supervised_and_shown(tmp_path):
    """T3 and the rest: a section is a device; without one this terminal has none."""

    async def main() -> None:
        house = House(tmp_path)
        assert house.settings.devices.keys() == {"idcard", "printer"}
        house.settings = msgspec.structs.replace(house.settings, fingerprint=Fingerprint(port="/dev/fingerprint"))
        house.links.ports["/dev/fingerprint"] = MemoryPort(VirtualFingerprintSensor(), latency_seconds=0.01)
        async with living(house):
            care = await operator(house)
            await care.component("fingerprint", "online")
            assert "cardreader" not in (await care.call("terminal.status"))["state"]

    run(main())


def test_the_longest_outage_that_is_no_reason_to_give_up_is_told_by_the_constants():
    """The figure in the sentence of GIVE_UP_TRIES."""
    pauses, pause = 0.0, supervisor.FIRST_PAUSE_SECONDS
    for _ in range(supervisor.GIVE_UP_TRIES - 1):
        pauses += pause
        pause = min(pause * supervisor.PAUSE_FACTOR, supervisor.LONGEST_PAUSE_SECONDS)
    assert round(pauses) == 381
