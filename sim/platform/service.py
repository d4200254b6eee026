"""Keeps the reference platform on its broker: what comes in goes to the logic, what it says goes out."""

import asyncio
from collections.abc import Callable

import structlog

from sim.platform.logic import Platform
from transport.uplink import Connection, Message, Uplink, UplinkLost

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 0.2
_WILL = Message("govterm/v1/platform", b"offline")


async def serve(platform: Platform, uplink: Uplink, ready: Callable[[], None]) -> None:
    """Serve until cancelled, connecting again whenever the broker is lost; call `ready` on each connection."""
    while True:
        try:
            async with uplink.connect(platform.subscriptions(), _WILL) as connection:
                log.info("platform_on_broker")
                ready()
                await _converse(platform, connection)
        except* UplinkLost as lost:
            log.info("platform_off_broker", reason=str(lost.exceptions[0]))
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError from None  # it came in the moment in which the broker was lost
        await asyncio.sleep(RECONNECT_SECONDS)


async def _converse(platform: Platform, connection: Connection) -> None:
    said: asyncio.Queue[tuple[float, list[Message]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def say(messages: list[Message]) -> None:
        said.put_nowait((loop.time() + platform.faults.slow_seconds, messages))

    async with asyncio.TaskGroup() as group:
        group.create_task(_speak(connection, said), name="platform speaks")
        platform.on_push = say
        try:
            while True:
                message = await connection.receive()
                if replies := platform.handle(message):
                    say(replies)
        finally:
            platform.on_push = lambda _: None


async def _speak(connection: Connection, said: asyncio.Queue[tuple[float, list[Message]]]) -> None:
    """Publish in the order in which it was sealed: a terminal refuses anything else."""
    async with asyncio.TaskGroup() as group:
        while True:
            at, messages = await said.get()
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            for message in messages:
                group.create_task(connection.publish(message), name="platform reply")
