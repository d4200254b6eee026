"""The egress guard: the daemon's process speaks to the configured endpoints and to nobody else (T20, H8).

It catches our own mistakes and those of libraries, in Python; the unit's IPAddressDeny= holds what Python does not see.
docs/egress.md has both.
"""

import asyncio
import errno
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal

import structlog

from devices.tcp import parse_address
from devices.ups import nut_protocol
from runtime.config import Settings
from runtime.guard import caller
from transport.dial import Address, look_up

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 3600.0
"""The same line of code that is refused again within this long is counted, not told."""

Violation = Literal["connect", "lookup", "bind"]
"""What was refused: to reach an address, to ask for a name, to be reached."""

_LOCAL = (socket.AF_UNIX, socket.AF_NETLINK)
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_FAMILIES = frozenset((*_LOCAL, *_INTERNET, -1))  # -1: as the descriptor says, or AF_INET


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who the configuration lets the daemon speak to: a name or an address, and a TCP port."""

    host: str
    port: int

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The host as an address; None when it is a name."""
        return parse_ip(self.host)


def endpoints(settings: Settings) -> list[Endpoint]:
    """Return the broker and every device on the network; a device without an address adds nothing."""
    found = [Endpoint(settings.platform.host, settings.platform.port)]
    for section in settings.devices.values():
        port = section.port
        if port.startswith("nut:"):
            port = nut_protocol.parse_address(port).link
        if port.startswith("tcp:"):
            found.append(Endpoint(*parse_address(port)))
    return found


def parse_ip(host: str) -> IPv4Address | IPv6Address | None:
    """Return an address without its zone, an IPv4 address in IPv6 form as the IPv4 one; None for a name."""
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


class Egress:
    """What the process may reach, and who tried to reach more."""

    def __init__(self, allowed: Iterable[Endpoint]) -> None:
        allowed = list(allowed)
        self._hosts = frozenset(endpoint.host.lower() for endpoint in allowed)
        self._places = {(endpoint.ip, endpoint.port) for endpoint in allowed if endpoint.ip is not None}
        self._found: dict[tuple[str, int], frozenset[IPv4Address | IPv6Address]] = {
            (endpoint.host.lower(), endpoint.port): frozenset() for endpoint in allowed if endpoint.ip is None
        }
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = threading.RLock()
        self._listener: Callable[[Violation], None] | None = None
        self._untold: list[Violation] = []

    def install(self) -> None:
        """Refuse, from now on and for ever, every other connection, lookup and INET listener of this process.

        A refused call raises PermissionError and is told (`note`); local sockets (AF_UNIX, AF_NETLINK) are free.
        """

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event.startswith("socket.") and (what := self._violation(event, arguments)) is not None:
                self.note(what, operation=event, caller=caller())
                raise PermissionError(errno.EPERM, f"the egress guard allows no {what} here")

        sys.addaudithook(hook)

    async def look_up(self, host: str, port: int) -> list[Address]:
        """Look an endpoint's host up (`transport.dial.look_up`); what comes back may be connected to, until the next
        time. Each endpoint has one caller, so no answer takes the place of one still in use.
        """
        found = await look_up(host, port)
        if (host.lower(), port) in self._found:
            self._found[host.lower(), port] = frozenset(
                ip for *_, place in found if (ip := parse_ip(place[0])) is not None
            )
        return found

    def watch(self, listener: Callable[[Violation], None]) -> None:
        """Tell the violations, those up to now included, on the running event loop; never stops."""
        loop = asyncio.get_running_loop()

        def tell(what: Violation) -> None:
            with suppress(RuntimeError):  # the loop has ended: the log line remains
                loop.call_soon_threadsafe(listener, what)

        with self._lock:
            self._listener = tell
            untold, self._untold = self._untold, []
        for what in untold:
            tell(what)

    def note(self, what: Violation, *, operation: str, caller: str) -> None:
        """Log and tell a violation, on any thread; the same caller within an hour is only counted.

        Neither has the foreign address or name: it could carry data.
        """
        now = time.monotonic()
        with self._lock:
            since, repeats = self._told.get(caller, (-REPEAT_SECONDS, 0))
            if caller in self._told and now - since < REPEAT_SECONDS:
                self._told[caller] = (since, repeats + 1)
                return
            self._told[caller] = (now, 0)
            listener = self._listener
            if listener is None:
                self._untold.append(what)
        log.error("egress_refused", operation=operation, caller=caller, repeats=repeats)
        if listener is not None:
            listener(what)

    def _violation(self, event: str, arguments: tuple[Any, ...]) -> Violation | None:
        """Return what is wrong with an audit event of the socket module."""
        match event, arguments:
            case "socket.__new__", (_, family, *_):
                return None if family in _FAMILIES else "connect"
            case "socket.connect" | "socket.sendto" | "socket.sendmsg", (made, place):
                return None if made.family in _LOCAL or self._is_endpoint(made, place) else "connect"
            case "socket.bind", (made, _):
                return None if made.family in _LOCAL else "bind"
            case "socket.getaddrinfo" | "socket.gethostbyname", (host, *_):
                return None if _text(host).lower() in self._hosts else "lookup"
            case "socket.gethostbyaddr" | "socket.getnameinfo", _:
                return "lookup"
        return None

    def _is_endpoint(self, made: socket.socket, place: tuple[Any, ...] | None) -> bool:
        """Tell whether a connection may go there; None is a message on a connection that was allowed before."""
        if place is None:
            return True
        if made.family not in _INTERNET or made.type != socket.SOCK_STREAM:
            return False
        ip, port = parse_ip(_text(place[0])), place[1]
        if ip is None:  # a name: Python has looked it up by itself, and nobody knows what it found
            return False
        return (ip, port) in self._places or any(
            number == port and ip in found for (_, number), found in self._found.items()
        )


def _text(host: str | bytes | bytearray | None) -> str:
    return host if isinstance(host, str) else bytes(host or b"").decode("ascii", "replace")
