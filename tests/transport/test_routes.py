"""The ways out of a machine, by the kernel's word: real routes in a network namespace of its own (H8)."""

import asyncio
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.routes import DefaultRoute, NetlinkRoutes, RoutesError, list_routes, parse

ROOT = Path(__file__).parents[2]
NAMESPACE = ("unshare", "--map-root-user", "--net")
WATCH = """
import asyncio, json
from transport.routes import NetlinkRoutes

def tell(routes):
    print(json.dumps(sorted((one.interface, one.version, one.gateway or "") for one in routes)), flush=True)

asyncio.run(NetlinkRoutes().run(lambda: print('"ready"', flush=True), tell))
"""
ADDRESSED = [
    "ip link add a0 type veth peer name a1",
    "ip link set a0 up",
    "ip link set a1 up",
    "ip addr add 10.0.0.2/24 dev a0",
]
SECOND = [
    "ip link add b0 type veth peer name b1",
    "ip link set b0 up",
    "ip link set b1 up",
    "ip addr add 10.1.0.2/24 dev b0",
]


class Board:
    """A network namespace with a watcher in it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def run(self, *commands: str) -> None:
        """Run commands as the administrator of the namespace."""
        for command in commands:
            inside = ("nsenter", "--target", str(self._process.pid), "--user", "--net", "--preserve-credentials")
            subprocess.run([*inside, *command.split()], check=True, capture_output=True)

    async def told(self):
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            return json.loads(await self._process.stdout.readline())


@pytest.fixture
async def board():
    """A board without any route whose watcher is ready."""
    process = await asyncio.create_subprocess_exec(
        *NAMESPACE, sys.executable, "-c", WATCH, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        one = Board(process)
        assert [await one.told(), await one.told()] == [[], "ready"]
        yield one
    finally:
        process.kill()
        await process.wait()


async def test_a_second_default_route_is_told_at_once_and_its_end_too(board):
    """H8: the kernel says so; nobody looks."""
    board.run(*ADDRESSED, "ip route add default via 10.0.0.1 dev a0")
    assert await board.told() == [["a0", 4, "10.0.0.1"]]
    board.run(*SECOND, "ip route add default via 10.1.0.1 dev b0 metric 500")
    assert await board.told() == [["a0", 4, "10.0.0.1"], ["b0", 4, "10.1.0.1"]]
    board.run("ip link set b0 down")
    assert await board.told() == [["a0", 4, "10.0.0.1"]]


@pytest.mark.parametrize(
    ("route", "way"),
    [
        ("ip -6 route add default dev b0", ["b0", 6, ""]),
        ("ip route add default dev b0 table 77", ["b0", 4, ""]),
        ("ip route add 128.0.0.0/1 dev b0", ["b0", 4, ""]),
        ("ip -6 route add 2000::/3 dev b0", ["b0", 6, ""]),
        ("ip -4 route add default via inet6 fe80::1 dev b0", ["b0", 4, "fe80::1"]),
    ],
)
async def test_it_is_found_in_every_form(board, route, way):
    """IPv6, another table, half of all addresses as VPNs take them, IPv4 through an IPv6 gateway."""
    board.run(*SECOND, route)
    assert await board.told() == [way]


async def test_both_hops_of_one_route_are_told(board):
    board.run(*ADDRESSED, *SECOND)
    board.run("ip route add default nexthop via 10.0.0.1 dev a0 nexthop via 10.1.0.1 dev b0")
    assert await board.told() == [["a0", 4, "10.0.0.1"], ["b0", 4, "10.1.0.1"]]


async def test_what_leads_nowhere_else_is_no_way_out(board):
    """A network's own route, a refusal, and routes of a few addresses."""
    board.run(*SECOND, "ip route add unreachable default", "ip route add 11.0.0.0/8 dev b0")
    board.run("ip route add default via 10.1.0.1 dev b0 metric 9")
    assert await board.told() == [["b0", 4, "10.1.0.1"]]


async def test_this_machine_answers_and_nothing_is_left_behind():
    assert all(isinstance(route, DefaultRoute) for route in await list_routes())


async def test_without_netlink_it_is_unavailable(monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(RoutesError) as refused:
        await NetlinkRoutes().run(lambda: None, lambda _: None)
    assert (refused.value.code, refused.value.retry) == ("routes.unavailable", True)


def message(kind: int, content: bytes, flags: int = 0) -> bytes:
    """A netlink message by the layout of netlink(7)."""
    return struct.pack("=IHHII", 16 + len(content), kind, flags, 1, 0) + content + bytes(-len(content) % 4)


def test_a_list_that_changed_meanwhile_says_so_and_an_error_is_one():
    """NLM_F_DUMP_INTR of the kernel's netlink documentation; NLMSG_ERROR and NLMSG_DONE of netlink(7)."""
    assert parse(message(3, b"", flags=0x10)).is_interrupted
    assert not parse(message(3, b"")).more
    with pytest.raises(OSError, match="refused") as refused:
        parse(message(2, struct.pack("=i", -1)))
    assert refused.value.errno == 1


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda content: message(24, bytes((2, 0)) + content)))
def test_any_bytes_are_routes_or_an_error(datagram):
    try:
        parse(datagram)
    except OSError:
        return
