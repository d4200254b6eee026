"""The cameras in the running house: how they are shown, their tickets, and what a UI may ask of them (T2, T15, T20)."""

import asyncio

import pytest

from devices.status import DeviceState, DeviceStatus
from runtime import tickets
from runtime.cameras import device_status
from sim.virtual_time import run
from tests.runtime.house import OPERATOR_UID, Caller, House, Refusal, living, tell
from vision.verifier import CameraStatus


async def operator(house: House) -> Caller:
    caller = house.caller(OPERATOR_UID)
    await caller.call("events.subscribe")
    return caller


async def faults(caller: Caller) -> list[tuple[str, str, bool]]:
    """Device and first code of each ticket, the oldest first, and whether it is open."""
    book = (await caller.call("tickets.list"))["tickets"]
    return [(one["device"], one["code"], one["closed_at"] is None) for one in reversed(book)]


async def shown(caller: Caller) -> dict:
    state = (await caller.call("terminal.status"))["state"]
    return {name: state[name] for name in ("camera", "document_camera", "vision")}


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (CameraStatus("face", "online"), DeviceStatus(DeviceState.ONLINE)),
        (CameraStatus("face", "dark"), DeviceStatus(DeviceState.ONLINE, details={"picture": "dark"})),
        (CameraStatus("document", "covered"), DeviceStatus(DeviceState.USER_ERROR, "camera.covered")),
        (CameraStatus("face", "frozen", "camera.frozen"), DeviceStatus(DeviceState.HARDWARE_ERROR, "camera.frozen")),
        (CameraStatus("face", "lost", "camera.missing"), DeviceStatus(DeviceState.OFFLINE, "camera.missing")),
        (CameraStatus("face", "unknown"), None),
    ],
)
def test_what_a_camera_says_is_told_as_of_any_device(told, meant):
    assert device_status(told) == meant


def test_a_cameras_fault_has_a_ticket_that_its_recovery_closes(tmp_path, monkeypatch):
    """T15: a dark picture is no fault; each camera has tickets of its own."""

    async def story(house: House, _ui: Caller) -> None:
        care = await operator(house)
        assert list((await shown(care)).values()) == [{"state": "online"}] * 3
        house.vision.camera_is("face", "dark")
        house.vision.camera_is("document", "frozen", "camera.frozen")
        await care.component("document_camera", "hardwareError")
        await asyncio.sleep(tickets.GRACE_SECONDS + 1)
        assert (await shown(care))["camera"] == {"state": "online", "details": {"picture": "dark"}}
        assert await faults(care) == [("document_camera", "camera.frozen", True)]
        house.vision.camera_is("face", "covered")
        await care.component("camera", "userError")
        assert (await shown(care))["camera"] == {"state": "userError", "code": "camera.covered"}
        house.vision.camera_is("document", "online")
        await asyncio.sleep(tickets.GRACE_SECONDS + 1)
        assert await faults(care) == [
            ("document_camera", "camera.frozen", False),
            ("camera", "camera.covered", True),
        ]
        house.vision.camera_is("face", "lost", "camera.missing")
        await care.component("camera", "offline")
        house.vision.camera_is("face", "online")
        await care.component("camera", "online")
        await asyncio.sleep(1)
        assert [is_open for *_, is_open in await faults(care)] == [False, False]

    tell(tmp_path, story, monkeypatch)


def test_of_a_dead_vision_process_only_the_process_has_a_ticket(tmp_path, monkeypatch):
    """Nothing is known of its cameras: they are shown as it is, and an open ticket of theirs stays as it is."""

    async def story(house: House, _ui: Caller) -> None:
        care = await operator(house)
        house.vision.camera_is("document", "lost", "camera.lost")
        await asyncio.sleep(tickets.GRACE_SECONDS + 1)

        house.vision.broken = True
        house.vision.kill()
        await care.component("vision", "offline")
        await asyncio.sleep(tickets.GRACE_SECONDS + 1)
        down = {"state": "offline", "code": "vision.unavailable"}
        assert list((await shown(care)).values()) == [down, down, down]
        assert await faults(care) == [("document_camera", "camera.lost", True), ("vision", "vision.unavailable", True)]

    tell(tmp_path, story, monkeypatch)


def test_cameras_come_back_with_the_process(tmp_path, monkeypatch):
    async def story(house: House, _ui: Caller) -> None:
        care = await operator(house)
        house.vision.camera_is("face", "lost", "camera.lost")
        house.vision.kill()
        await care.component("document_camera", "offline")
        await care.component("document_camera", "online")
        assert (await shown(care))["camera"] == {"state": "offline", "code": "camera.lost"}
        assert "camera" not in [device for device, *_ in await faults(care)]

    tell(tmp_path, story, monkeypatch)


def test_a_terminal_has_the_cameras_of_its_configuration(tmp_path):
    async def main() -> None:
        house = House(tmp_path, cameras=("face",))
        async with living(house):
            ui = house.caller()
            await house.settled(ui)
            state = (await ui.call("terminal.status"))["state"]
            assert (state["camera"], "document_camera" in state) == ({"state": "online"}, False)
            session = (await ui.call("session.open"))["session"]
            with pytest.raises(Refusal, match=r"camera\.missing"):
                await ui.call("preview.open", session=session, camera="document")
            answer = await ui.call("session.begin_document", session=session)
            assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "camera.missing", False)

    run(main())


@pytest.mark.parametrize("camera", ["back", "", 1, None])
def test_there_are_two_cameras(tmp_path, monkeypatch, camera):
    async def story(_house: House, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await ui.call("preview.open", session=session, camera=camera)

    tell(tmp_path, story, monkeypatch)
