"""One machine, one terminal: a copied card or disk on another board is refused and is an alarm (H8)."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from runtime import hardware
from runtime.alarms import REPEAT_SECONDS
from runtime.config import load
from runtime.enrolment import load_enrolment
from runtime.hardware import HardwareName, expect_enrolled, hardware_name, hardware_names, machine_name
from runtime.journal import Journal
from runtime.messages import Alarm, from_payload
from sim.memory import InlineExecutor
from sim.settings import RigFiles, RigSettings, make_rig
from sim.virtual_time import run
from tests.runtime.house import EPOCH, House
from transport.errors import TransportError

DMI = "sys/devices/virtual/dmi/id"
TREE = "sys/firmware/devicetree/base/serial-number"
MACHINE_ID = "0123456789abcdef0123456789abcdef"


class Board:
    """A machine's files below a directory of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("etc/machine-id", MACHINE_ID + "\n")

    def write(self, place: str, content: str) -> None:
        file = self.root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def sources(self) -> list[str]:
        return [one.source for one in hardware_names(self.root)]

    def best(self) -> HardwareName:
        return hardware_names(self.root)[0]


@pytest.fixture
def board(tmp_path) -> Board:
    return Board(tmp_path / "board")


@pytest.fixture
def here(board, monkeypatch) -> Board:
    """This machine is that board."""
    monkeypatch.setattr(hardware.hardware_names, "__defaults__", (board.root,))
    return board


def test_a_board_is_named_by_its_own_serial_number_and_only_then_by_the_machine_id(board):
    assert board.sources() == ["machine_id"]
    board.write(TREE, "10000000a3b4c5d6\0")
    assert board.sources() == ["device_tree", "machine_id"]
    board.write(f"{DMI}/board_serial", "BSS-0F2211\n")
    board.write(f"{DMI}/product_serial", "PF3K7QX1\n")
    assert board.sources() == ["product_serial", "board_serial", "device_tree", "machine_id"]
    names = [one.name for one in hardware_names(board.root)]
    assert len(set(names)) == 4
    assert all(len(name) == 32 and int(name, 16) for name in names)
    assert not any("PF3K7QX1".casefold().encode().hex() in name for name in names)


@pytest.mark.parametrize(
    "blank",
    [
        *("", "\n", "0", "None", "N/A", "Default string", "To Be Filled By O.E.M.", "To be filled by O.E.M.\n"),
        *("System Serial Number", "Not Specified", "00000000", "xxxxxxxx", "123456789", "..........", "INVALID"),
    ],
)
def test_what_makers_leave_blank_is_no_serial_number(board, blank):
    """Every board of that maker would be the same machine."""
    board.write(f"{DMI}/product_serial", blank)
    board.write(TREE, f"{blank}\0")
    assert board.sources() == ["machine_id"]


def test_two_sources_with_one_number_are_two_names(board):
    board.write(f"{DMI}/product_serial", "PF3K7QX1\n")
    board.write(f"{DMI}/board_serial", "PF3K7QX1\n")
    assert len({one.name for one in hardware_names(board.root)}) == 3


def test_the_machine_ids_name_is_systemds():
    """As `systemd-id128 machine-id --app-specific=` of systemd 252 says it for this machine id."""
    application = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert machine_name(bytes.fromhex(MACHINE_ID), application) == "4e7a918525b94da8ad4b4f264a130726"


def test_the_machine_id_keeps_the_name_it_had(here):
    assert hardware_name() == HardwareName("04bf5bdca8dd49e89fcf72be4d9bda64", "machine_id")


def test_a_machine_without_any_name_cannot_be_enrolled(here):
    (here.root / "etc/machine-id").unlink()
    with pytest.raises(TransportError) as caught:
        hardware_name()
    assert caught.value.code == "enroll.no_machine_id"


def test_a_copied_card_on_another_board_is_another_machine(here):
    """The machine id came along with the card; the board's serial number did not."""
    here.write(f"{DMI}/product_serial", "PF3K7QX1\n")
    enrolled = hardware_name().name
    expect_enrolled(enrolled)
    here.write(f"{DMI}/product_serial", "PF3K7QX2\n")
    with pytest.raises(TransportError) as caught:
        expect_enrolled(enrolled)
    assert (caught.value.code, caught.value.retry) == ("hardware.mismatch", False)
    assert "product_serial, machine_id" in str(caught.value)
    (here.root / f"{DMI}/product_serial").unlink()
    with pytest.raises(TransportError, match="this one tells machine_id"):
        expect_enrolled(enrolled)


def test_a_board_that_tells_more_than_at_its_enrolment_is_the_same_machine(here):
    """Enrolled by the machine id alone: it serves, and says that a copy would too."""
    enrolled = hardware_name().name
    here.write(f"{DMI}/board_serial", "BSS-0F2211\n")
    with capture_logs() as lines:
        expect_enrolled(enrolled)
    assert [(line["event"], line["log_level"]) for line in lines] == [("hardware_by_machine_id", "warning")]


def test_nothing_is_said_of_a_board_with_its_own_number(here):
    here.write(TREE, "10000000a3b4c5d6\0")
    with capture_logs() as lines:
        expect_enrolled(hardware_name().name)
    assert lines == []


@pytest.fixture
def settings(tmp_path):
    files = RigFiles(tmp_path / "rig", tmp_path / "rig")
    make_rig(files, RigSettings(broker_port=1))
    return load(files.daemon_settings, rig=True)


def test_the_daemon_compares_what_was_enrolled(settings, here):
    """A rig is any machine; a terminal only its own. One enrolled before machines were named says so."""

    def refusal(*, rig: bool = False, name: str | None = None) -> str | None:
        given = msgspec.structs.replace(
            settings, rig=rig, platform=msgspec.structs.replace(settings.platform, hardware=name)
        )
        found = load_enrolment(given, software_version="0", boot_id="b").refusal
        return None if found is None else found.code

    assert refusal(name=hardware_name().name) is None
    assert refusal(name="0" * 32) == "hardware.mismatch"
    assert refusal(name="0" * 32, rig=True) is None
    with capture_logs() as lines:
        assert refusal() is None
    assert [line["event"] for line in lines] == ["hardware_not_named"]


def test_another_machine_serves_nothing_and_leaves_one_alarm(tmp_path):
    """The alarm reaches the platform when the card is back in its board; from here nothing is said to anybody."""
    refused = TransportError("hardware.mismatch", "another machine", advice="", retry=False)

    def database() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "journal.db", isolation_level=None)

    async def story() -> list[Alarm]:
        for _ in range(3):
            house = House(tmp_path, journal=database())
            house.enrolment = replace(house.enrolment, refusal=refused)
            house.uplink.connect = pytest.fail
            with pytest.raises(TransportError) as caught:
                await house.daemon()
            assert caught.value is refused
            assert house.told.states == []
            await asyncio.sleep(REPEAT_SECONDS / 10)
        executor = InlineExecutor(database())
        journal = Journal(executor, lambda: EPOCH)
        await journal.open()
        records = await journal.unacknowledged(journal.streams["alarm"], 0, 99)
        await executor.close()
        return [from_payload(record.payload, Alarm) for record in records]

    (alarm,) = run(story())
    assert (alarm.code, alarm.subject) == ("hardware.mismatch", "enrolment")
    assert (tmp_path / "audit.jsonl").read_text().count("start_refused") == 3
