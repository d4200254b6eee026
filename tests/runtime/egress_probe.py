"""Runs under the egress guard: tries what it forbids and what it allows, and prints what came of it, as JSON.

Its arguments: the port of an endpoint at 127.0.0.1, at localhost by name too, and one that is no endpoint's.
"""

import asyncio
import json
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import aiomqtt

from devices.tcp import open_tcp_link
from runtime import egress as egress_module
from runtime import logs
from runtime.egress import Egress, Endpoint
from transport.dial import Address, look_up

PORT, NAMED, OTHER = (int(argument) for argument in sys.argv[1:])
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
CITIZEN = "citizen-zhang.example"


def connect(place: tuple[object, ...], family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as made:
        made.settimeout(5)
        made.connect(place)


def connect_code() -> None:
    with socket.socket() as made:
        made.connect_ex((ELSEWHERE, PORT))


def send(kind: int, flags: int, place: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, kind) as made:
        made.sendto(b"data", flags, place)


def send_message() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendmsg([b"data"], [], 0, (ELSEWHERE, PORT))


async def open_and_close(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()


async def connect_by_the_loop() -> None:
    with socket.socket() as made:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (ELSEWHERE, PORT))


async def publish_elsewhere() -> None:
    async with aiomqtt.Client(ELSEWHERE, PORT, timeout=3):
        pass


def in_a_thread_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(connect, (ELSEWHERE, PORT)).result()


def listen(family: int, host: str) -> None:
    socket.create_server((host, 0), family=family).close()


async def serve() -> None:
    await asyncio.start_server(lambda reader, writer: None, HERE, 0)


async def by_name() -> None:
    """As the daemon's transports do: look up through the guard, then connect to what came back."""
    found = await egress.look_up("localhost", NAMED)
    for *_, place in found:
        with suppress(ConnectionRefusedError):  # IPv6, where nobody listens
            connect(place, socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    link = await open_tcp_link(f"tcp://LocalHost:{NAMED}", 0, look_up=egress.look_up)
    await link.close()


async def by_a_name_that_moves() -> None:
    """The addresses are those of the last lookup."""

    async def moved(host: str, port: int) -> list[Address]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (ELSEWHERE, port))]

    egress_module.look_up = moved
    try:
        await egress.look_up("localhost", NAMED)
        connect((ELSEWHERE, NAMED))
    finally:
        egress_module.look_up = look_up
    await egress.look_up("localhost", NAMED)
    connect((HERE, NAMED))


def unix() -> None:
    left, right = socket.socketpair()
    with left, right, socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(f"\0govterm-egress-{os.getpid()}")
        listener.listen()
        client.connect(listener.getsockname())
        left.sendmsg([b"x"])


def netlink() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as made:
        made.bind((0, 0))


def message_on_a_connection() -> None:
    with socket.create_connection((HERE, PORT)) as made:
        made.sendmsg([b"x"])
        made.sendall(b"y")


REFUSED: dict[str, Callable[[], object]] = {
    "connect: another port": lambda: connect((HERE, OTHER)),
    "connect: another address": lambda: connect((ELSEWHERE, PORT)),
    "connect: connect_ex": connect_code,
    "connect: IPv6": lambda: connect(("::1", PORT), socket.AF_INET6),
    "connect: IPv4 in IPv6": lambda: connect((f"::ffff:{ELSEWHERE}", PORT), socket.AF_INET6),
    "connect: the named port at another address": lambda: connect((ELSEWHERE, NAMED)),
    "connect: a name that Python looks up by itself": lambda: connect(("localhost", NAMED)),
    "connect: any address": lambda: connect(("", PORT)),
    "connect: a datagram to the endpoint": lambda: send(socket.SOCK_DGRAM, 0, (HERE, PORT)),
    "connect: a datagram elsewhere": lambda: send(socket.SOCK_DGRAM, 0, (ELSEWHERE, PORT)),
    "connect: a datagram socket": lambda: connect((HERE, PORT), kind=socket.SOCK_DGRAM),
    "connect: sendmsg": send_message,
    "connect: data with the first packet": lambda: send(socket.SOCK_STREAM, socket.MSG_FASTOPEN, (ELSEWHERE, PORT)),
    "connect: a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "connect: a VM socket": lambda: socket.socket(socket.AF_VSOCK).close(),
    "connect: asyncio": lambda: asyncio.run(open_and_close(ELSEWHERE, PORT)),
    "connect: sock_connect": lambda: asyncio.run(connect_by_the_loop()),
    "connect: a thread pool": in_a_thread_pool,
    "connect: urllib": lambda: urllib.request.urlopen(f"http://{HERE}:{OTHER}/"),
    "connect: a device's link": lambda: asyncio.run(open_tcp_link(f"tcp://{ELSEWHERE}:{PORT}", 0)),
    "lookup: getaddrinfo": lambda: socket.getaddrinfo(CITIZEN, PORT),
    "lookup: as bytes": lambda: socket.getaddrinfo(CITIZEN.encode(), PORT),
    "lookup: an address that is no endpoint's": lambda: socket.getaddrinfo(ELSEWHERE, PORT),
    "lookup: gethostbyname": lambda: socket.gethostbyname(CITIZEN),
    "lookup: gethostbyname_ex": lambda: socket.gethostbyname_ex(CITIZEN),
    "lookup: gethostbyaddr": lambda: socket.gethostbyaddr(ELSEWHERE),
    "lookup: getnameinfo": lambda: socket.getnameinfo((ELSEWHERE, PORT), 0),
    "lookup: asyncio": lambda: asyncio.run(open_and_close(CITIZEN, PORT)),
    "lookup: by the transport": lambda: asyncio.run(look_up(CITIZEN, PORT)),
    "lookup: urllib": lambda: urllib.request.urlopen(f"http://{CITIZEN}/"),
    "lookup: aiomqtt": lambda: asyncio.run(publish_elsewhere()),
    "bind: IPv4": lambda: listen(socket.AF_INET, HERE),
    "bind: IPv6": lambda: listen(socket.AF_INET6, "::1"),
    "bind: asyncio": lambda: asyncio.run(serve()),
}
ALLOWED: dict[str, Callable[[], object]] = {
    "connect": lambda: connect((HERE, PORT)),
    "connect, IPv4 in IPv6": lambda: connect((f"::ffff:{HERE}", PORT), socket.AF_INET6),
    "connect by asyncio": lambda: asyncio.run(open_and_close(HERE, PORT)),
    "look up an endpoint's address": lambda: socket.getaddrinfo(HERE, PORT),
    "connect by name": lambda: asyncio.run(by_name()),
    "connect by a name that moves": lambda: asyncio.run(by_a_name_that_moves()),
    "a message on a connection": message_on_a_connection,
    "Unix sockets": unix,
    "netlink": netlink,
}


def outcome(attempt: Callable[[], object]) -> dict[str, object]:
    """Try it twice; return what was raised, and what the listener heard."""
    egress._told.clear()  # the cases share lines of code
    raised = []
    for _ in range(2):
        try:
            attempt()
            raised.append("nothing")
        except Exception as error:  # noqa: BLE001 - any outcome is reported
            raised.append("PermissionError" if is_refusal(error) else repr(error))
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)
    told, heard[:] = [*heard], []
    return {"raised": raised, "heard": told}


def is_refusal(error: BaseException | None) -> bool:
    """Tell whether an error is the guard's, itself or in what a library makes of it."""
    if error is None or isinstance(error, PermissionError):
        return error is not None
    inner = (error.__context__, getattr(error, "reason", None), *error.args)
    return any(is_refusal(one) for one in inner if isinstance(one, BaseException))


async def watch() -> None:
    egress.watch(heard.append)


heard: list[str] = []
egress = Egress([Endpoint(HERE, PORT), Endpoint("localhost", NAMED)])
loop = asyncio.new_event_loop()

if __name__ == "__main__":
    with closing(logs.install()):
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(watch(), loop).result(5)
        egress.install()
        answer = {
            "refused": {name: outcome(attempt) for name, attempt in REFUSED.items()},
            "allowed": {name: outcome(attempt) for name, attempt in ALLOWED.items()},
            "afterwards": outcome(lambda: connect((ELSEWHERE, NAMED))),
        }
        print(json.dumps(answer), flush=True)
