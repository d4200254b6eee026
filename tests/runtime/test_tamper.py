"""Tampering as the devices and the machine show it: the alarm, the end of the session, the lock (T23, H8, T14)."""

import asyncio
import sqlite3

import pytest

from devices.driver import HEALTH_SECONDS
from devices.hotplug import UsbDevice, UsbPort
from runtime.policy import Security
from runtime.route_watch import SETTLE_SECONDS
from sim.scripted import ScriptedVision
from sim.virtual_time import run
from tests.runtime.house import Caller, Refusal, living
from tests.runtime.tamper_rig import POLL_SECONDS, Cabinet, alarms, ended, locks, only_lock, operator, play, until
from transport.routes import DefaultRoute
from vision.errors import VisionError

IDLE_SECONDS = HEALTH_SECONDS + 1
"""While nobody is served the door is looked at this often."""
SETTLED = SETTLE_SECONDS + 0.1
ENDS_SECONDS = 10.0
"""From what was seen to the end of the session at the most: its operations 5 s, the vision process 5 s."""
STICK = UsbDevice("/sys/devices/usb1/1-4", "0951:1666", frozenset({"080650"}))
KEYBOARD = UsbDevice("/sys/devices/usb1/1-5", "046d:c31c", frozenset({"030101"}))
MODEM = UsbDevice("/sys/devices/usb1/1-6", "2c7c:0125", frozenset({"ff0000"}))


def test_the_cabinet_door(tmp_path):
    """T23, T20: told at once, the citizen's session ended and wiped; clearing waits for the door."""

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        await house.verified(ui)
        house.unit.open_door()
        opened = house.loop.time()
        assert await ended(ui) == "tamper"
        assert house.loop.time() - opened <= POLL_SECONDS + ENDS_SECONDS
        assert house.vision.wiped >= 1
        with pytest.raises(Refusal, match=r"session\.locked"):
            await ui.call("session.open")
        assert await alarms(care) == [("environment.door_open", "environment")]
        assert await locks(care) == [("environment.door_open", "environment", True)]
        with pytest.raises(Refusal, match=r"lockdown\.cause_persists"):
            await care.call("lockdown.clear", lock=await only_lock(care))
        house.unit.close_door()
        await asyncio.sleep(IDLE_SECONDS)
        with pytest.raises(Refusal, match=r"session\.locked"):
            await ui.call("session.open")
        assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}
        await ui.call("session.open")
        (found,) = house.audited("tamper_found")
        assert found["details"] == {"kind": "door", "code": "environment.door_open", "subject": "environment"}

    play(tmp_path, story)


def test_a_door_that_no_one_can_see_closed_is_open(tmp_path):
    """No answer is unknown, never a value: a unit that falls silent over an open door has not closed it."""

    async def story(house: Cabinet, _ui: Caller, care: Caller) -> None:
        house.unit.open_door()
        await asyncio.sleep(IDLE_SECONDS)
        house.unit.silent()
        await asyncio.sleep(300)
        with pytest.raises(Refusal, match=r"lockdown\.cause_persists"):
            await care.call("lockdown.clear", lock=await only_lock(care))

    play(tmp_path, story)


def test_an_open_door_is_no_less_open_for_what_else_the_unit_tells(tmp_path):
    """T23: each healthy status of the unit is told; none of them closes the door."""

    async def story(house: Cabinet, _ui: Caller, care: Caller) -> None:
        house.unit.open_door()
        await asyncio.sleep(IDLE_SECONDS)
        for percent in (99.0, 40.0):
            house.unit.set_humidity(percent)
            await asyncio.sleep(IDLE_SECONDS)
            with pytest.raises(Refusal, match=r"lockdown\.cause_persists"):
                await care.call("lockdown.clear", lock=await only_lock(care))
        house.unit.close_door()
        await asyncio.sleep(IDLE_SECONDS)
        assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}

    play(tmp_path, story)


def test_a_door_within_an_announced_maintenance_is_audited_until_that_is_over(tmp_path):
    """H5: expected, so no alarm; one that stands open afterwards is one."""

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        house.platform.announce_maintenance(0, 600)
        await until(care, "maintenance", "announced")
        await asyncio.sleep(2)
        house.unit.open_door()
        await asyncio.sleep(IDLE_SECONDS)
        assert len(house.audited("door_opened_in_maintenance")) == 1
        assert (await alarms(care), await locks(care)) == ([], [])
        house.unit.close_door()
        await asyncio.sleep(IDLE_SECONDS)
        house.unit.open_door()
        await asyncio.sleep(400)
        await ui.call("session.close", session=(await ui.call("session.open"))["session"])
        await asyncio.sleep(300)
        assert await locks(care) == [("environment.door_open", "environment", True)]

    play(tmp_path, story)


def test_a_door_before_an_announced_maintenance_is_an_alarm(tmp_path):
    async def story(house: Cabinet, _ui: Caller, care: Caller) -> None:
        house.platform.announce_maintenance(3600, 600)
        await until(care, "maintenance", "announced")
        house.unit.open_door()
        await until(care, "lockdown", "locked")

    play(tmp_path, story)


@pytest.mark.parametrize("how", ["tamper", "lock", "remove"])
def test_a_pin_pad_that_was_opened(tmp_path, how):
    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        await ui.call("session.open")
        getattr(house.outside.pinpad, how)()
        assert await ended(ui) == "tamper"
        assert await alarms(care) == [("pinpad.tampered", "pinpad")]
        assert await locks(care) == [("pinpad.tampered", "pinpad", True)]
        house.outside.pinpad.mend()
        await asyncio.sleep(120)
        await care.call("devices.retry", device="pinpad")
        await asyncio.sleep(60)
        assert await locks(care) == [("pinpad.tampered", "pinpad", True)], (
            "the pad is trusted again by a new life alone"
        )
        house.pinpad_port.unplug()
        house.pinpad_port.plug()
        await until(care, "pinpad", "online")
        assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}

    play(tmp_path, story)


def test_a_swapped_device(tmp_path):
    """H8: the lock is cleared once an operator accepted the device, or the right one is back."""

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        await ui.call("session.open")
        house.reader_port.unplug()
        house.reader.exchange()
        house.reader_port.plug()
        assert await ended(ui) == "tamper"
        assert await locks(care) == [("idcard.swapped", "idcard", True)]
        shown = (await care.call("terminal.status"))["state"]["idcard"]
        await care.call("devices.accept", device="idcard", identity=shown["identity"])
        await until(care, "idcard", "online")
        await care.call("lockdown.clear", lock=await only_lock(care))
        await ui.call("session.open")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("device", "code", "within"),
    [(STICK, "usb.storage", 0.1), (KEYBOARD, "usb.keyboard", 0.1), (MODEM, "usb.unknown", 6)],
)
def test_an_unknown_usb_device(tmp_path, device, code, within):
    """Storage and keyboards at once; others when they have had the time to become a known peripheral."""

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        await ui.call("session.open")
        house.hotplug.attach(device)
        plugged = house.loop.time()
        await until(care, "lockdown", "locked")
        assert house.loop.time() - plugged <= within
        assert await ended(ui) == "tamper"
        assert await locks(care) == [(code, device.usb, True)]
        house.hotplug.detach(device.path)
        assert await locks(care) == [(code, device.usb, False)]
        assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}

    play(tmp_path, story)


def test_usb_devices_at_boot_count_and_those_of_the_board_do_not(tmp_path):
    async def main() -> None:
        house = Cabinet(tmp_path, Security(usb_allowed=("046D:C31C",)))
        house.hotplug.attach(UsbDevice("/sys/devices/usb1", "1d6b:0002", frozenset({"090001", "090000"})))
        house.hotplug.attach(KEYBOARD)
        house.hotplug.attach(MODEM)
        house.hotplug.attach(UsbDevice("/sys/devices/usb1/1-1", "0403:6001", frozenset({"ffffff"})))
        place = "/sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0"
        house.hotplug.plug(UsbPort("/dev/ttyUSB0", frozenset({"/dev/idcard"}), "0403:6001", "A1", place))
        async with living(house):
            care = await operator(house)
            await asyncio.sleep(10)
            assert await locks(care) == [("usb.unknown", "2c7c:0125", True)]

    run(main())


def test_a_second_default_route(tmp_path):
    """H8: never on two networks."""
    first, second = DefaultRoute("eth0", 4, "192.0.2.1"), DefaultRoute("usb0", 4, "192.168.42.129")

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        house.routes.set(first, DefaultRoute("eth0", 6, "fe80::1"), DefaultRoute("eth0", 6, "fe80::2"))
        house.routes.set(first, DefaultRoute("lo", 4))
        house.routes.set()
        house.routes.set(second)
        await asyncio.sleep(SETTLED)
        assert await locks(care) == [], "one network, or none"
        await ui.call("session.open")
        house.routes.set(first, second)
        assert await ended(ui) == "tamper"
        assert await alarms(care) == [("network.second_route", "network")]
        assert await locks(care) == [("network.second_route", "network", True)]
        house.routes.set(first, DefaultRoute("eth0", 4, "192.0.2.254"))
        await asyncio.sleep(SETTLED)
        assert await locks(care) == [("network.second_route", "network", True)], "another gateway"
        house.routes.set(first)
        assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}

    play(tmp_path, story)


@pytest.mark.parametrize("uplinks", [(), ("eth0",)])
def test_a_change_of_network_is_no_second_one(tmp_path, uplinks):
    """A new gateway or lease is there before the old one goes: only what stays once the routes settled locks."""
    first, next_one = DefaultRoute("eth0", 4, "192.0.2.1"), DefaultRoute("eth0", 4, "192.0.2.254")
    other = DefaultRoute("usb0", 4, "192.168.42.129")

    async def story(house: Cabinet, _ui: Caller, care: Caller) -> None:
        for _ in range(3):
            house.routes.set(first, next_one, other)
            await asyncio.sleep(0.02)
            house.routes.set(next_one)
            await asyncio.sleep(SETTLED)
        assert (await locks(care), await alarms(care)) == ([], [])
        house.routes.set(first, other)
        await asyncio.sleep(SETTLED / 2)
        house.routes.set(first)
        house.routes.set(first, other)
        await asyncio.sleep(SETTLED / 2)
        assert len(await locks(care)) == 1, "gone for a moment, it is not gone"

    play(tmp_path, story, Security(uplinks=uplinks))


def test_stated_uplinks_are_the_only_ones(tmp_path):
    """H8: one that was not stated is an alarm also as the only one."""

    async def story(house: Cabinet, _ui: Caller, care: Caller) -> None:
        house.routes.set(DefaultRoute("eth0", 4, "192.0.2.1"), DefaultRoute("wwan0", 4))
        await asyncio.sleep(SETTLED)
        assert await locks(care) == []
        house.routes.set(DefaultRoute("usb0", 4, "192.168.42.129"), DefaultRoute("wlan0", 6, "fe80::1"))
        await asyncio.sleep(SETTLED)
        uplinks = ("usb0", "wlan0")
        assert await locks(care) == [("network.unknown_uplink", uplink, True) for uplink in uplinks]
        house.routes.set(DefaultRoute("eth0", 4, "192.0.2.1"), DefaultRoute("usb0", 4, "192.168.42.129"))
        assert await locks(care) == [
            ("network.unknown_uplink", "usb0", True),
            ("network.unknown_uplink", "wlan0", False),
        ]

    play(tmp_path, story, Security(uplinks=("eth0", "wwan0")))


def test_a_model_that_is_not_the_one_of_the_manifest(tmp_path):
    class Damaged(ScriptedVision):
        is_damaged = False

        async def run(self, ready) -> None:
            if self.is_damaged:
                raise VisionError("model.damaged", "detector: its SHA-256 is another", advice="prepare", retry=False)
            await super().run(ready)

    async def main() -> None:
        house = Cabinet(tmp_path)
        house.vision = vision = Damaged(cameras=("face", "document"))
        async with living(house):
            ui, care = house.caller(), await operator(house)
            await house.settled(ui)
            await ui.call("session.open")
            vision.is_damaged = True
            vision.kill()
            assert await ended(ui) == "tamper"
            assert (await care.call("terminal.status"))["state"]["vision"]["state"] == "potentialFraud"
            assert await locks(care) == [("model.damaged", "vision", True)]
            vision.is_damaged = False
            await until(care, "vision", "online")
            assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}

    run(main())


def test_a_stored_catalogue_that_somebody_changed(tmp_path):
    """T17, T23: what the platform signed is not what lies on the disk."""

    async def main() -> None:
        house = Cabinet(tmp_path)
        async with living(house):
            care = await operator(house)
            await house.until(lambda: house.rows("SELECT 1 FROM catalogues"))
            image = house.journal.serialize()
        journal = sqlite3.connect(":memory:", isolation_level=None)
        journal.deserialize(image)
        (content,) = journal.execute("SELECT content FROM catalogues").fetchone()
        journal.execute("UPDATE catalogues SET content = ?", (content.replace(b'"fee_fen":0', b'"fee_fen":9', 1),))
        async with living(Cabinet(tmp_path / "again", journal=journal)) as again:
            care = await operator(again)
            assert await locks(care) == [("catalogue.bad_signature", "catalogue", False)]
            await again.until(lambda: again.rows("SELECT 1 FROM catalogues WHERE state = 'current'"))
            assert await care.call("lockdown.clear", lock=await only_lock(care)) == {"locks": []}

    (tmp_path / "again").mkdir()
    run(main())


def test_a_catalogue_that_the_platform_issues_wrongly_is_only_told(tmp_path):
    """A slip in publishing is no reason to lock every terminal: the catalogue in force goes on."""

    async def main() -> None:
        house = Cabinet(tmp_path)
        house.platform.faults.spoil_catalogue("signature")
        async with living(house):
            ui, care = house.caller(), await operator(house)
            await house.settled(ui)
            await ui.call("session.open")
            assert await alarms(care) == [("catalogue.bad_signature", "catalogue")]
            assert await locks(care) == []

    run(main())
