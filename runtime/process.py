"""The daemon's process: `python -m runtime --config FILE`, as the unit and `govterm run` start it.

Exit codes: 0 stopped as asked, 2 wrong arguments, 69 another daemon holds the socket, 70 the daemon failed, 78 the
configuration has mistakes (sysexits.h). A stop that takes too long ends by SIGALRM.
"""

import argparse
import asyncio
import ctypes
import os
import resource
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import structlog

from runtime import guard, logs, sockets
from runtime.api.listen import Listeners, UnixClients, UnixPreviews
from runtime.board import assemble, boot_id
from runtime.config import ConfigError, Settings, check_machine, load
from runtime.egress import Egress, endpoints
from runtime.enrolment import load_enrolment
from runtime.journal.files import Files
from runtime.life import run_daemon
from runtime.notify import Notifier
from runtime.supervisor import error_code, error_types
from vision.crashes import tell_by_kind
from vision.memory_lock import lock_memory

log = structlog.get_logger(__name__)

STOP_SECONDS = 25
"""From the order to stop until the kernel ends the process; shorter than the unit's TimeoutStopSec."""

_UNAVAILABLE = 69
_FAILED = 70
_CONFIG = 78
_PR_SET_DUMPABLE = 4
_ALLOCATOR = ("PYTHONMALLOC", "GLIBC_TUNABLES")


def main() -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtime", description="The govterm daemon.")
    parser.add_argument("--config", type=Path, required=True, help="the configuration file (TOML)")
    parser.add_argument("--rig", action="store_true", help="accept rig = true; only the rig's launcher says this")
    arguments = parser.parse_args()
    tell_by_kind()
    is_locked = harden()
    handler = logs.install()
    try:
        if not is_locked:
            log.warning("memory_not_locked", advice="let the unit set LimitMEMLOCK=infinity, or have no swap")
        return _serve(arguments.config, Notifier.from_environment(), rig=arguments.rig)
    finally:
        handler.close()


def harden() -> bool:
    """Leave no core dump, no memory for other processes to read, and no file that others may open (T20).

    Returns whether the memory is kept out of swap as well.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    return lock_memory()


def _serve(config: Path, notifier: Notifier, *, rig: bool) -> int:
    for name in _ALLOCATOR:
        if name not in os.environ:
            log.warning("allocator_not_set", variable=name, advice="start the daemon by `govterm run` or its unit")
    with ExitStack() as stack:
        try:
            settings = load(config, rig=rig)
            listening = _listen(settings, stack)
            guard.install(writable(settings))
            egress = Egress(endpoints(settings))
            egress.install()
            return asyncio.run(_daemon(settings, egress, listening, notifier))
        except ConfigError as error:
            for mistake in error.mistakes:
                log.error("config_mistake", key=mistake.key, expected=mistake.expected, found=mistake.found)
            return _CONFIG
        except sockets.SocketError as error:
            log.error("socket_refused", code=error.code, reason=str(error), advice=error.advice)
            return _UNAVAILABLE


def writable(settings: Settings) -> list[Path]:
    """Return every file the daemon may open for writing: journal with its copies, audit log and reserve, ports.

    A name that ends in `*` stands for all that begin so (runtime.guard).
    """
    audit = settings.audit_file
    ports = [Path(section.port) for section in settings.devices.values() if section.port.startswith("/")]
    closed = audit.with_name(f"{audit.stem}-*")
    return [*Files(settings.journal_file).writable, audit, audit.with_suffix(".reserve"), closed, *ports]


def _listen(settings: Settings, stack: ExitStack) -> dict[str, socket.socket]:
    """Check this machine, then take or bind the two sockets; `stack` closes them."""
    if mistakes := check_machine(settings):
        raise ConfigError(mistakes)
    listening = sockets.inherited()
    for listener in listening.values():
        stack.enter_context(listener)
    paths = (settings.api.socket, settings.api.preview_socket)
    bound = stack.enter_context(sockets.bound(path for path in paths if path not in listening))
    return {**listening, **bound}


async def _daemon(
    settings: Settings, egress: Egress, listening: Mapping[str, socket.socket], notifier: Notifier
) -> int:
    """Run the daemon until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stop)
    listeners = Listeners(
        UnixClients(listening[settings.api.socket]), UnixPreviews(listening[settings.api.preview_socket])
    )
    try:
        enrolment = load_enrolment(settings, software_version=version("govterm"), boot_id=boot_id())
        try:
            seams = assemble(settings, egress)
            await run_daemon(settings, seams, enrolment=enrolment, listeners=listeners, notifier=notifier, stop=stop)
        finally:
            enrolment.keys.identity.wipe()
    except Exception as error:  # noqa: BLE001 - the process's own boundary: told by code, never by message
        advice = getattr(error, "advice", "report a software fault")
        log.error("daemon_failed", code=error_code(error), error=error_types(error), advice=advice)
        return _FAILED
    return 0


def _stop(stop: asyncio.Event) -> None:
    if not stop.is_set():
        stop.set()
        signal.alarm(STOP_SECONDS)
