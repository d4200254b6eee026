"""A TLS connection made without blocking: the name, the address and the handshake, all cancellable."""

import asyncio
import concurrent.futures
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Address = tuple[int, int, int, str, Any]
"""As socket.getaddrinfo gives it."""

LookUp = Callable[[str, int], Awaitable[list[Address]]]
"""Returns the addresses of a host, for a port; raises OSError or UnicodeError when there is none."""


async def dial(host: str, port: int, tls: ssl.SSLContext, seconds: float, look_up: LookUp) -> ssl.SSLSocket:
    """Return a TLS connection to the first address of `host` that answers; raise OSError, TimeoutError included."""
    try:
        async with asyncio.timeout(seconds):
            addresses = await look_up(host, port)
            failure = OSError(f"{host} has no address")
            for address in addresses:
                try:
                    plain = await _connect(address, seconds / len(addresses))
                    return await _shake_hands(
                        tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
                    )
                except OSError as error:
                    failure = error
            raise failure
    except TimeoutError:
        raise TimeoutError(f"connecting to {host}:{port} timed out") from None


async def _connect(address: Address, seconds: float) -> socket.socket:
    family, kind, protocol, _, place = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def look_up(host: str, port: int) -> list[Address]:
    """Look a host up (a LookUp) in a thread of its own: a lookup cannot be stopped, and no exit may wait for it."""
    found: concurrent.futures.Future[list[Address]] = concurrent.futures.Future()

    def ask() -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled: nobody waits any more
            try:
                found.set_result([*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
            except (OSError, UnicodeError) as error:
                found.set_exception(error)

    threading.Thread(target=ask, name="mqtt-resolve", daemon=True).start()
    return await asyncio.wrap_future(found)


async def _shake_hands(tls_socket: ssl.SSLSocket) -> ssl.SSLSocket:
    """Return the socket after its TLS handshake; close it when that fails."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            turn = asyncio.Event()
            try:
                tls_socket.do_handshake()
                return tls_socket
            except ssl.SSLWantReadError:
                loop.add_reader(tls_socket, turn.set)
            except ssl.SSLWantWriteError:
                loop.add_writer(tls_socket, turn.set)
            try:
                await turn.wait()
            finally:
                loop.remove_reader(tls_socket)
                loop.remove_writer(tls_socket)
    except BaseException:
        tls_socket.close()
        raise
