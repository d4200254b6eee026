"""The rig's broker as a process of its own: iotcore behind a TLS front that demands a client certificate.

iotcore's own TLS listener lets clients in without a certificate, so it listens in the clear on a loopback port of
the system's choice and this front carries the bytes both ways. Its listener is bound to loopback as well.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import iotcore

from sim.parent import end_with_parent
from sim.trust import Trust

HOST = "127.0.0.1"
START_SECONDS = 15.0
STOP_SECONDS = 5.0
_CHUNK_BYTES = 65_536

_CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10

[v4.1]
name = "plain"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v4.1.connections]
connection_timeout_ms = 5000
max_payload_size = 1048576
max_inflight_count = 200
"""


async def run_broker(directory: Path, port: int, ready: Callable[[int], None]) -> None:
    """Serve MQTT 3.1.1 over TLS on loopback until cancelled; call `ready` with the port that serves.

    With `port` 0 the system chooses it. `directory` holds the files of `sim.trust.make_trust` and receives the
    broker's configuration.
    Raises OSError when the port is taken, RuntimeError when the broker does not start.
    """
    trust = Trust.in_directory(directory)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trust.ca)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(trust.broker_certificate, trust.broker_key)

    inner_port = _free_port()
    configuration = directory / "broker.toml"
    configuration.write_text(_CONFIGURATION.format(host=HOST, port=inner_port), encoding="ascii")
    broker = iotcore.Broker(config_path=str(configuration))
    clients: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_carry(reader, writer, inner_port), name="broker-client")
        clients.add(task)
        task.add_done_callback(clients.discard)

    await asyncio.to_thread(broker.start, START_SECONDS)
    try:
        server = await asyncio.start_server(accept, HOST, port, ssl=tls, ssl_handshake_timeout=STOP_SECONDS)
        async with server:
            ready(int(server.sockets[0].getsockname()[1]))
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                for task in clients:
                    task.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
    finally:
        await asyncio.to_thread(broker.stop, STOP_SECONDS)


@contextlib.asynccontextmanager
async def broker_process(directory: Path, port: int = 0) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start `python -m sim.broker`, give it and its port when it serves, and stop it at the end.

    Raises RuntimeError when it does not serve within START_SECONDS.
    """
    arguments = ("-m", "sim.broker", "--directory", str(directory), "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the broker has no output to read")
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.startswith(b"ready "):
            raise RuntimeError("the broker did not start; its error output says why")
        yield process, int(line.split()[1])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            async with asyncio.timeout(2 * STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inner_port: int) -> None:
    """Carry bytes both ways until one side ends, then close both."""
    inner_writer: asyncio.StreamWriter | None = None
    try:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, inner_port)
        pumps = [
            asyncio.create_task(_pump(reader, inner_writer), name="broker-in"),
            asyncio.create_task(_pump(inner_reader, writer), name="broker-out"),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
    except OSError:
        return  # iotcore is gone: the client sees its connection end
    finally:
        writer.transport.abort()
        if inner_writer is not None:
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _main(directory: Path, port: int) -> None:
    running = asyncio.current_task()
    if running is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)

    def ready(bound: int) -> None:
        sys.stdout.write(f"ready {bound}\n")
        sys.stdout.flush()

    with contextlib.suppress(asyncio.CancelledError):
        await run_broker(directory, port, ready)


def main() -> None:
    """Run the broker until SIGTERM or Ctrl-C; the line `ready PORT` on standard output says that it serves."""
    parser = argparse.ArgumentParser(prog="python -m sim.broker", description="Run the rig's MQTT broker on loopback.")
    parser.add_argument("--directory", type=Path, required=True, help="the rig's trust anchors (sim.trust)")
    parser.add_argument("--port", type=int, default=8883, help="TLS port on 127.0.0.1; 0 lets the system choose")
    arguments = parser.parse_args()
    end_with_parent()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(arguments.directory, arguments.port))


if __name__ == "__main__":
    main()
