"""A mosquitto broker as a process of its own, set up as a platform's: a terminal writes and reads its own topics."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from sim.trust import Trust

HOST = "127.0.0.1"
START_SECONDS = 15.0
STOP_SECONDS = 5.0

_CONFIGURATION = """\
user root
persistence true
persistence_location {state}/
autosave_interval 1
max_queued_messages 100000
max_inflight_messages 100
max_packet_size 1048577
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_dest file {state}/log
log_type error
log_type warning
log_type notice
log_type information
allow_anonymous false
acl_file {state}/acl
listener {port} {host}
cafile {trust.ca}
certfile {trust.broker_certificate}
keyfile {trust.broker_key}
require_certificate true
{users}
"""
_ACCESS = """\
user platform
topic readwrite #
pattern write govterm/v1/%u/up/#
pattern read govterm/v1/%u/down/#
"""


@contextlib.asynccontextmanager
async def broker_process(
    directory: Path, port: int = 0, *, passwords: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start mosquitto on loopback, give it and its port when it serves, and stop it at the end.

    `directory` holds the files of `sim.trust.make_trust`; what the broker keeps lies in `mosquitto` there, for the
    next one too. A client's certificate names its user, or with `passwords` (by user) its user name and password do.
    Raises RuntimeError when it does not serve within START_SECONDS.
    """
    port = port or _free_port()
    configuration = await _configure(directory, port, passwords)
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "/usr/sbin/mosquitto", "-c", str(configuration)),
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    serving = asyncio.Event()
    reading = asyncio.create_task(_read(process, serving), name="mosquitto-log")
    started = asyncio.create_task(serving.wait(), name="mosquitto-start")
    try:
        await asyncio.wait((reading, started), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not serving.is_set():
            raise RuntimeError(f"mosquitto did not start: {reading.result() if reading.done() else 'it says nothing'}")
        yield process, port
    finally:
        started.cancel()
        await _stop(process)
        await reading


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop it; it forgets a SIGTERM that comes in the moment in which it begins to serve, so it is told again."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _read(process: asyncio.subprocess.Process, serving: asyncio.Event) -> str:
    """Read the log to its end and return its last line."""
    last = ""
    while process.stderr is not None and (line := await process.stderr.readline()):
        last = line.decode(errors="replace").strip()
        if last.endswith(" running"):
            serving.set()
    return last


async def _configure(directory: Path, port: int, passwords: Mapping[str, str] | None) -> Path:
    state = directory / "mosquitto"
    state.mkdir(mode=0o700, exist_ok=True)
    users = "use_identity_as_username true"
    if passwords is not None:
        users = f"password_file {state}/passwords"
        listed = "".join(f"{user}:{password}\n" for user, password in passwords.items())
        _write(state / "passwords", listed)
        hashing = await asyncio.create_subprocess_exec("mosquitto_passwd", "-U", str(state / "passwords"))
        if await hashing.wait() != 0:
            raise RuntimeError("mosquitto_passwd failed")
    _write(state / "acl", _ACCESS)
    configuration = state / "mosquitto.conf"
    trust = Trust.in_directory(directory)
    _write(configuration, _CONFIGURATION.format(state=state, users=users, port=port, host=HOST, trust=trust))
    return configuration


def _write(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
