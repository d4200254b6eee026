"""The tester's commands as a tester meets them: real ports, files, pages and exit codes."""

import asyncio
import json
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from devices.serial import open_serial_link
from sim.devices.pinpad import VirtualPinPad
from sim.pty import PtyHost
from tests.runtime.tester_rig import MAKE

GOVTERM = str(Path(sys.executable).with_name("govterm"))
DEADLINE_SECONDS = 60.0


async def govterm(*arguments: str | Path) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(GOVTERM, *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def device(kind: str, path: Path, baud: int = 115_200) -> AsyncIterator[PtyHost]:
    with PtyHost(MAKE[kind](), path, baud=baud) as host:
        yield host


async def test_a_probe_prints_one_object_writes_its_page_and_exits_with_zero(tmp_path: Path) -> None:
    port, page = tmp_path / "environment", tmp_path / "page.html"
    async with device("environment", port):
        code, out, err = await govterm("probe", "environment", "--port", port, "--json", "--report", page)
    said = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert (said["kind"], said["identity"], said["passed"]) == ("environment", None, True)
    outcomes = {step["name"]: step["outcome"] for step in said["steps"]}
    assert outcomes.pop("identity") == "skipped"
    assert set(outcomes.values()) == {"passed"}
    assert "Identity: none told" in page.read_text()


async def test_without_a_terminal_a_hand_is_not_asked_for(tmp_path: Path) -> None:
    async with device("pinpad", tmp_path / "pinpad"):
        code, out, _ = await govterm("probe", "pinpad", "--port", tmp_path / "pinpad", "--baud", "115200")
    assert code == 0
    assert re.search(r"^skipped .* press a key: needs a hand", out, re.MULTILINE)
    assert out.endswith("pinpad ZT598-26110017: passed\n")


async def test_a_probe_that_fails_exits_with_one_and_shows_the_wire(tmp_path: Path) -> None:
    async with device("ups", tmp_path / "ups") as host:
        host.freeze()
        code, out, _ = await govterm("probe", "ups", "--port", tmp_path / "ups")
    assert code == 1
    assert "failed" in out
    assert "> 51 31 0D" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("probe", "fridge", "--port", "x"), "no kind fridge; there are idcard"),
        (("probe", "ups", "--port", "x", "--baud", "1"), "baud"),
        (("probe", "ups", "--port", "x", "--set", "colour=1"), "colour"),
        (("probe", "ups", "--port", "x", "--set", 'driver="nope"'), "[ups] driver: expected an installed driver"),
        (("probe", "ups"), "--port"),
        (("capture", "nut://a@localhost/ups", "f", "--kind", "ups"), "a network address is not recorded"),
        (("capture", "x", "f", "--kind", "fridge"), "no kind fridge"),
    ],
)
async def test_wrong_arguments_are_two(arguments: tuple[str, ...], said: str) -> None:
    code, out, err = await govterm(*arguments)
    assert (code, out) == (2, "")
    assert said in err


async def test_a_recording_is_made_and_played_back_as_a_device(tmp_path: Path) -> None:
    port, file = tmp_path / "ups", tmp_path / "ups.jsonl"
    async with device("ups", port):
        code, out, err = await govterm("capture", port, file, "--kind", "ups")
        assert (code, err.count("passed")) == (0, 4), err
        assert f"govterm replay {file}" in out
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        code, _, err = await govterm("capture", port, file, "--kind", "ups")
        assert (code, err) == (1, f"govterm: {file}: File exists\n")
    played = tmp_path / "played"
    process = await asyncio.create_subprocess_exec(
        *(GOVTERM, "replay", str(file), "--port", str(played)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await process.stdout.readline() == f"ups at {played}\n".encode()
        code, out, _ = await govterm("probe", "ups", "--port", played, "--json")
        process.terminate()
        await process.communicate()
    assert (code, json.loads(out)["identity"]) == (0, "SANTAK C1K VER 1.0")
    assert process.returncode == 0
    assert not played.is_symlink()


async def test_a_port_that_somebody_holds_is_not_recorded(tmp_path: Path) -> None:
    """T21: the daemon's port is its own."""
    port, file = tmp_path / "ups", tmp_path / "ups.jsonl"
    async with device("ups", port):
        link = await open_serial_link(str(port), 2400)
        code, _, err = await govterm("capture", port, file, "--kind", "ups")
        await link.close()
        await asyncio.get_running_loop().shutdown_default_executor()
    assert code == 1
    assert "a port that the daemon uses is its own" in err
    assert not file.exists()


async def test_a_bad_recording_and_a_taken_name_are_told(tmp_path: Path) -> None:
    file = tmp_path / "wire"
    file.write_text("{}\n")
    code, _, err = await govterm("replay", file)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{file}:1" in err
    file.write_text('{"govterm_capture": 1, "kind": "ups", "baud": 2400}\n')
    code, _, err = await govterm("replay", file, "--port", file)
    assert (code, err) == (1, f"govterm: {file}: it exists already\n")


STATE: dict[str, Any] = {
    "printer": {"state": "offline", "code": "printer.paper_out", "details": {"paper": "out"}},
    "idcard": {"state": "online", "identity": "05.01"},
    "ups": {"state": "online", "identity": "[/]SANTAK[red]"},
    "session": {"state": "none"},
}


@asynccontextmanager
async def daemon(path: Path, *later: dict[str, Any]) -> AsyncIterator[None]:
    """A daemon that answers events.subscribe, says `later`, and closes when something more is there."""
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            handlers.add(task)
        greeted = json.loads(await reader.readline())
        assert greeted["method"] == "rpc.hello"
        writer.write(json.dumps({"jsonrpc": "2.0", "id": greeted["id"], "result": {}}).encode() + b"\n")
        asked = json.loads(await reader.readline())
        assert asked["method"] == "events.subscribe"
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {"sequence": 1, "state": STATE}}
        for line in (answer, *later):
            writer.write(json.dumps(line).encode() + b"\n")
        await writer.drain()
        if not later:
            await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, path):
        yield
        await asyncio.gather(*handlers)


async def test_devices_are_listed_once_away_from_a_terminal(tmp_path: Path) -> None:
    async with daemon(tmp_path / "api.sock"):
        code, out, err = await govterm("devices", "--socket", tmp_path / "api.sock")
    assert (code, err) == (0, "")
    assert out.index("idcard") < out.index("printer")
    for word in ("05.01", "printer.paper_out", "paper=out", "[/]SANTAK[red]"):
        assert word in out
    assert "session" not in out


async def test_no_daemon_is_one_line(tmp_path: Path) -> None:
    code, _, err = await govterm("devices", "--socket", tmp_path / "none")
    assert (code, err.count("\n")) == (69, 1)


class Screen:
    """What a program shows on a terminal, whose descriptor for the program is `tty`."""

    def __init__(self) -> None:
        self.master, self.tty = os.openpty()
        os.set_blocking(self.master, False)
        self.seen = bytearray()
        self._news = asyncio.Event()

    def read(self) -> None:
        self.seen += os.read(self.master, 65536)
        self._news.set()

    async def until(self, word: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while word not in self.seen:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def terminal() -> AsyncIterator[Screen]:
    screen = Screen()
    asyncio.get_running_loop().add_reader(screen.master, screen.read)
    try:
        yield screen
    finally:
        asyncio.get_running_loop().remove_reader(screen.master)
        os.close(screen.master)
        os.close(screen.tty)


async def test_at_a_terminal_a_hand_is_asked_for(tmp_path: Path) -> None:
    pad = VirtualPinPad()
    heard, asked = pad.feed, asyncio.Event()

    def feed(data: bytes) -> bytes:
        reply = heard(data)
        if asked.is_set() and pad.keypad_on and data:
            pad.function(3)
            reply += heard(b"")
        return reply

    pad.feed = feed  # type: ignore[method-assign]
    with PtyHost(pad, tmp_path / "pinpad", baud=9600) as host:
        async with terminal() as screen:
            process = await asyncio.create_subprocess_exec(
                *(GOVTERM, "probe", "pinpad", "--port", str(tmp_path / "pinpad")),
                stdin=screen.tty,
                stdout=screen.tty,
                stderr=screen.tty,
            )
            await screen.until(b"press a function key beside the screen")
            asked.set()
            if pad.keypad_on:
                pad.function(3)
                host.nudge()
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await process.wait() == 0
            await screen.until(b"press a key: key F3")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_probe_that_is_stopped_leaves_the_device_safe(tmp_path: Path, number: signal.Signals) -> None:
    """Rule 4: a closed terminal too; of a card reader that means the card is handed back (T5)."""
    pad = VirtualPinPad()
    heard, on = pad.feed, asyncio.Event()

    def feed(data: bytes) -> bytes:
        reply = heard(data)
        if pad.keypad_on:
            on.set()
        return reply

    pad.feed = feed  # type: ignore[method-assign]
    with PtyHost(pad, tmp_path / "pinpad", baud=9600):
        async with terminal() as screen:
            process = await asyncio.create_subprocess_exec(
                *(GOVTERM, "probe", "pinpad", "--port", str(tmp_path / "pinpad")),
                stdin=screen.tty,
                stdout=screen.tty,
                stderr=screen.tty,
            )
            await screen.until(b"press a function key beside the screen")
            async with asyncio.timeout(DEADLINE_SECONDS):
                if not pad.keypad_on:
                    on.clear()
                    await on.wait()
                process.send_signal(number)
                assert await process.wait() == 130
            await screen.until(b"govterm: stopped")
    assert not pad.keypad_on


async def test_changes_show_in_the_live_table(tmp_path: Path) -> None:
    change = {"sequence": 2, "component": "idcard", "state": {"state": "offline", "code": "idcard.offline"}}
    said = {"jsonrpc": "2.0", "method": "events.change", "params": change}
    async with terminal() as screen, daemon(tmp_path / "api.sock", said):
        process = await asyncio.create_subprocess_exec(
            *(GOVTERM, "devices", "--socket", str(tmp_path / "api.sock")),
            stdout=screen.tty,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"COLUMNS": "120", "TERM": "xterm"},
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            _, err = await process.communicate()
        await screen.until(b"idcard.offline")
    assert (process.returncode, err.decode()) == (69, "govterm: the daemon closed the connection\n")
    assert b"05.01" in screen.seen


@pytest.mark.parametrize("command", ["probe", "capture", "devices", "replay"])
async def test_every_option_says_what_it_is(command: str) -> None:
    code, out, _ = await govterm(command, "--help")
    assert code == 0
    lines = [line for line in out.splitlines() if re.match(r"│ \S*\s*--", line)]
    assert lines
    assert all(len(re.split(r"\s{2,}", line.strip("│ "))) >= 2 for line in lines)
