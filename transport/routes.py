"""The ways out of this machine, by the word of the kernel (H8): the seam and its real form over rtnetlink(7).

The in-memory form lives in `sim.memory`. Needs no privilege, and no socket but one of the family AF_NETLINK.
"""

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, Protocol

WIDEST = 3
"""A prefix no longer than this takes as much as a default route would: half of all addresses, or IPv6's 2000::/3."""
LOOK_SECONDS = 30.0
"""Between two looks without an event: the kernel drops the routes of an address that goes without a word."""
PAUSE_SECONDS = 0.2
"""Between two looks at the least: routes that come and go all the time cost no more than this."""
ANSWER_SECONDS = 5.0
"""What the kernel may take to list its routes."""

_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_HOP = struct.Struct("=HBBi")
_ERROR, _DONE, _NEW_ROUTE, _GET_ROUTE = 2, 3, 24, 26
_REQUEST_DUMP = 0x301
_INTERRUPTED = 0x10
_UNICAST = 1
_OUT, _GATEWAY, _MULTIPATH, _VIA = 4, 5, 9, 18
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""Links, and the addresses and routes of IPv4 and of IPv6."""
_MOST_BYTES = 65_536
"""The kernel fills no more into one datagram of a dump."""


class RoutesError(Exception):
    """The kernel does not tell its routes (`routes.unavailable`)."""

    code = "routes.unavailable"
    retry = True
    advice = "the unit must let the daemon open AF_NETLINK sockets (RestrictAddressFamilies=)"


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A route to everywhere: the interface it leaves by, the version of IP, and the gateway's address if it has one."""

    interface: str
    version: Literal[4, 6]
    gateway: str | None = None


RoutesListener = Callable[[frozenset[DefaultRoute]], None]
"""Told all default routes at the start and at each change; never raises."""


class Routes(Protocol):
    """Who says which ways out there are."""

    async def run(self, ready: Callable[[], None], on_change: RoutesListener) -> None:
        """Tell what there is, call `ready`, then tell of each change; raise RoutesError, never return."""


class NetlinkRoutes:
    """`Routes` of the network namespace of this process, on the event loop, without a thread."""

    async def run(self, ready: Callable[[], None], on_change: RoutesListener) -> None:
        """Listen first, then list, so that nothing is lost in between; raise RoutesError."""
        try:
            with _open(_GROUPS) as events:
                told = await list_routes()
                on_change(told)
                ready()
                while True:
                    await _changed(events)
                    found = await list_routes()
                    if found != told:
                        told = found
                        on_change(told)
                    await asyncio.sleep(PAUSE_SECONDS)
        except OSError as error:
            raise RoutesError(f"rtnetlink: errno {error.errno}") from None


async def list_routes() -> frozenset[DefaultRoute]:
    """Return the default routes of every routing table; raise OSError.

    A list that changed while it was made is asked for anew.
    """
    while True:
        with _open(0) as asking:
            asking.send(_HEADER.pack(_HEADER.size + _ROUTE.size, _GET_ROUTE, _REQUEST_DUMP, 1, 0) + bytes(_ROUTE.size))
            found: set[tuple[int, Literal[4, 6], str | None]] = set()
            is_whole = True
            async with asyncio.timeout(ANSWER_SECONDS):
                while (said := parse(await asyncio.get_running_loop().sock_recv(asking, _MOST_BYTES))).more:
                    found |= said.routes
                    is_whole = is_whole and not said.is_interrupted
            if is_whole and not said.is_interrupted:
                found |= said.routes
                return frozenset(DefaultRoute(_name(index), version, gateway) for index, version, gateway in found)


@dataclass(frozen=True, slots=True)
class Said:
    """One datagram of a list: default routes as interface index, version and gateway, and whether there is `more`."""

    routes: frozenset[tuple[int, Literal[4, 6], str | None]]
    more: bool
    is_interrupted: bool


def parse(datagram: bytes) -> Said:
    """Read one datagram of the answer to a dump of routes; raise OSError when it is an error or no such datagram."""
    routes: set[tuple[int, Literal[4, 6], str | None]] = set()
    is_interrupted, more = False, True
    try:
        while datagram:
            length, kind, flags, _, _ = _HEADER.unpack_from(datagram)
            if not _HEADER.size <= length <= len(datagram):
                raise OSError(errno.EBADMSG, "a length that cannot be")
            content = datagram[_HEADER.size : length]
            is_interrupted = is_interrupted or bool(flags & _INTERRUPTED)
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", content)
                raise OSError(-code, "refused")
            if kind == _DONE:
                more = False
            if kind == _NEW_ROUTE:
                routes |= _ways(content)
            datagram = datagram[(length + 3) & ~3 :]
    except (struct.error, ValueError):
        raise OSError(errno.EBADMSG, "not a list of routes") from None
    return Said(frozenset(routes), more, is_interrupted)


def _ways(content: bytes) -> set[tuple[int, Literal[4, 6], str | None]]:
    """Return the ways of a route: none unless it is a default route, several when it has several next hops."""
    family, prefix, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(content)
    if kind != _UNICAST or prefix > WIDEST or family not in (socket.AF_INET, socket.AF_INET6):
        return set()
    version: Literal[4, 6] = 4 if family == socket.AF_INET else 6
    attributes = dict(_attributes(content[_ROUTE.size :]))
    ways = set()
    if (out := attributes.get(_OUT)) is not None:
        ways.add((int.from_bytes(out, sys.byteorder), version, _gateway(attributes)))
    hops = attributes.get(_MULTIPATH, b"")
    while hops:
        length, _, _, index = _HOP.unpack_from(hops)
        if not _HOP.size <= length <= len(hops):
            raise ValueError
        ways.add((index, version, _gateway(dict(_attributes(hops[_HOP.size : length])))))
        hops = hops[(length + 3) & ~3 :]
    return ways


def _gateway(attributes: dict[int, bytes]) -> str | None:
    """Return the next hop's address; RTA_VIA has its family before it."""
    address = attributes.get(_GATEWAY) or attributes.get(_VIA, b"")[2:]
    return str(ip_address(address)) if address else None


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        length, kind = _ATTRIBUTE.unpack_from(content)
        if not _ATTRIBUTE.size <= length <= len(content):
            raise ValueError
        yield kind & 0x3FFF, content[_ATTRIBUTE.size : length]
        content = content[(length + 3) & ~3 :]


async def _changed(events: socket.socket) -> None:
    """Return after an event, what it says does not matter; after LOOK_SECONDS; and when events were dropped."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await asyncio.get_running_loop().sock_recv(events, _MOST_BYTES)
    except TimeoutError:
        return
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
    try:
        while events.recv(_MOST_BYTES):
            pass
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
            raise


def _open(groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        made.bind((0, groups))
    except OSError:
        made.close()
        raise
    return made


def _name(index: int) -> str:
    """Return the interface's name; its number when it is gone already."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
