"""The rig as a whole: made, started, stopped without a trace, and ruled by verbs."""

import asyncio
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.pinpad.commands import IDENTIFY
from devices.pinpad.protocol import encode
from runtime.config import check_machine, load
from runtime.drivers import KINDS
from sim import assets
from sim.control import ControlError, ask
from sim.devices.pinpad import VirtualPinPad
from sim.pty import PtyHost
from sim.rig import hosted, open_rig
from sim.settings import BAUD, RigError, RigFiles, RigSettings, free_port, load_rig, make_rig
from tests.sim.processes import children
from vision.store import cache_directory

DEADLINE_SECONDS = 30.0


@pytest.fixture
def files() -> Iterator[RigFiles]:
    with tempfile.TemporaryDirectory(prefix="rig-") as directory:
        yield RigFiles(Path(directory, "rig"), Path(directory, "rig"))


@pytest.fixture(scope="module")
def prepared() -> assets.Assets:
    return assets.prepare(cache_directory() / "assets")


def test_a_new_rig_is_private_and_the_daemon_accepts_its_configuration(files: RigFiles) -> None:
    made = RigSettings(seed=5, broker_port=free_port())
    make_rig(files, made)
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert load_rig(files.settings) == (files, made)
    settings = load(files.daemon_settings, rig=True)
    assert check_machine(settings) == []
    assert settings.rig
    assert settings.platform.port == made.broker_port
    assert settings.vision.cameras == {"face": f"rig:{files.camera}", "document": f"rig:{files.document_camera}"}


def test_a_rig_is_never_replaced(files: RigFiles) -> None:
    make_rig(files, RigSettings())
    with pytest.raises(RigError, match="there is a rig already"):
        make_rig(files, RigSettings())


def test_a_path_too_long_for_sockets_is_said(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    with pytest.raises(RigError, match="too long a path for sockets"):
        make_rig(RigFiles(long, long), RigSettings())
    assert not long.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = -1", r"Expected `int` >= 0.*seed"),
        ("colour = 1", "unknown field"),
        ("[", r"rig\.toml"),
        ("\xff", "rig"),
    ],
)
def test_a_bad_configuration_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rig.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(RigError, match=said):
        load_rig(tmp_path / "rig.toml")


def test_no_configuration_is_said(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="govterm rig init"):
        load_rig(tmp_path / "rig.toml")


async def test_it_starts_obeys_and_leaves_nothing(files: RigFiles, prepared: assets.Assets) -> None:
    make_rig(files, RigSettings(broker_port=free_port()))
    before = children()
    async with open_rig(files, RigSettings(broker_port=load_rig(files.settings)[1].broker_port), prepared) as rig:
        commands = " ".join(children().values())
        assert "sim.broker" in commands
        assert "sim.platform" in commands
        listed = await ask(files.control, "rig", "verbs")
        assert set(listed) == {*KINDS, "nut", "camera", "document", "broker", "platform"}
        assert {"place_card", "remove_card", "unplug", "plug", "fault"} <= set(listed["idcard"])
        assert {"paper_out", "refill", "open_cover", "unplug"} <= set(listed["printer"])
        assert {"slow", "silent", "double_answer", "broken_seal", "drop_record", "double_record", "outage"} <= set(
            listed["platform"]
        )
        for kind in BAUD:
            assert files.port(kind).resolve().is_char_device()
        for citizen in (0, 399):
            await ask(files.control, "idcard", "place_card", {"citizen": citizen, "photo": "eileen_collins"})
        await ask(files.control, "idcard", "place_card", {"name": "样本"})
        permit = {"variant": "hk_macao_taiwan", "photo": "eileen_collins"}
        await ask(files.control, "idcard", "place_permit", permit)
        for args, said in (
            ({"citizen": 400}, "the population has 0 to 399"),
            ({"photo": "nobody"}, "photo block|base64|padding"),
            ({"colour": "red"}, "colour"),
        ):
            with pytest.raises(ControlError, match=said):
                await ask(files.control, "idcard", "place_card", args)
        await rig.do("idcard", "unplug")
        assert not files.port("idcard").exists()
        await rig.do("idcard", "plug")
        assert files.port("idcard").exists()
        await ask(files.control, "camera", "show", {"person": "eileen_collins"})
        with pytest.raises(ControlError, match="stranger"):
            await ask(files.control, "camera", "show", {"person": "stranger"})
        for camera, socket in (("camera", files.camera), ("document", files.document_camera)):
            assert {"dark", "cover", "freeze", "low_resolution"} <= set(listed[camera])
            await rig.do(camera, "unplug")
            assert not socket.exists()
            await rig.do(camera, "plug")
            assert socket.exists()
        with pytest.raises(ControlError, match="seconds: 0 to 3600"):
            await rig.do("platform", "slow", seconds=-1)
        await rig.do("platform", "slow", seconds=0.5)
        assert (await rig.do("platform", "summary"))["grants"] == 0
        for part in ("broker", "platform"):
            for verb, runs in (("stop", False), ("stop", False), ("start", True), ("start", True)):
                await rig.do(part, verb)
                assert (f"sim.{part}" in " ".join(children().values())) is runs
        assert (await rig.do("platform", "summary"))["grants"] == 0
    assert children() == before
    left = {path.name for path in files.directory.iterdir()}
    assert left == {"rig.toml", "govterm.toml", "trust", "state", "paper", "platform.db", "platform.log"}


@pytest.mark.parametrize("part", ["sim.platform", "sim.broker"])
async def test_a_part_that_dies_is_said(files: RigFiles, prepared: assets.Assets, part: str) -> None:
    settings = RigSettings(broker_port=free_port())
    make_rig(files, settings)
    async with open_rig(files, settings, prepared) as rig:
        (victim,) = [pid for pid, command in children().items() if part in command]
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(RigError, match=f"{part[4:]}: it ended by itself with code -9"):
                await rig.watch()


async def test_a_taken_port_is_said(files: RigFiles, prepared: assets.Assets) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        settings = RigSettings(broker_port=server.sockets[0].getsockname()[1])
        make_rig(files, settings)
        with pytest.raises(RigError, match="broker"):
            async with open_rig(files, settings, prepared):
                pytest.fail("the rig started on a taken port")
    assert not any("sim." in command for command in children().values())


async def test_mending_mends_the_device_and_its_wire(tmp_path: Path) -> None:
    pad = VirtualPinPad()
    with PtyHost(pad, tmp_path / "pinpad") as host:
        verbs = hosted(host)
        for verb in ("silent", "slow_dribble", "freeze"):
            verbs[verb]()
        host.nudge()
        assert (host.dribble, host.frozen) == (True, True)
        verbs["mend"]()
        assert (host.dribble, host.frozen) == (False, False)
        assert pad.feed(encode(IDENTIFY.body)) != b""


async def test_a_frozen_device_neither_hears_nor_speaks(tmp_path: Path) -> None:
    pad = VirtualPinPad()
    heard: list[bytes] = []
    pad.feed = lambda data: heard.append(data) or b""  # type: ignore[func-returns-value, method-assign]
    with PtyHost(pad, tmp_path / "pinpad") as host:
        host.freeze()
        host.nudge()
        assert (heard, host.path.exists()) == ([], True)
        host.mend()
        host.nudge()
        assert heard == [b""]
