"""Tells systemd how the daemon fares (sd_notify(3)) and feeds its watchdog while the daemon vouches for itself."""

import asyncio
import os
import socket
from contextlib import suppress

from runtime.state import Component, StateBoard, TooSlow


class Notifier:
    """Sends state datagrams to `address`; does nothing without one (not started by systemd, tests)."""

    def __init__(self, address: str | None = None, *, watchdog_seconds: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address is not None and address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls) -> "Notifier":
        """Take NOTIFY_SOCKET and WATCHDOG_USEC from the environment, leaving neither to child processes."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        process = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        ours = microseconds.isdecimal() and int(microseconds) > 0 and process == str(os.getpid())
        return cls(address, watchdog_seconds=int(microseconds) / 1e6 if ours else None)

    def ready(self) -> None:
        """The daemon serves."""
        self._send("READY=1")

    def starting(self, seconds: float) -> None:
        """The start takes up to so much longer from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`; nothing personal."""
        self._send(f"STATUS={text.replace(chr(10), ' ')}")

    async def follow(self, board: StateBoard) -> None:
        """Keep `systemctl status` in step with the board, for ever."""
        while True:
            changes = board.subscribe()
            try:
                while True:
                    self.status(_line(board.full()))
                    await changes.next()
            except TooSlow:
                continue
            finally:
                changes.close()

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1")

    async def feed_watchdog(self) -> None:
        """Feed the watchdog at a third of its time; return at once when there is none.

        It runs on the daemon's loop, so that a loop that hangs lets systemd restart the daemon.
        """
        while self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 3)

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        # systemd being away or slow must never stop or block the daemon; its watchdog judges what it did not hear.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), self._address)


def _line(state: dict[str, Component]) -> str:
    return ", ".join(
        f"{name} {component.state}" + (f" ({component.code})" if component.code else "")
        for name, component in sorted(state.items())
    )
