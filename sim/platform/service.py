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
        await asyncio.sleep(RECONNECT_SECONDS)


async def _converse(platform: Platform, connection: Connection) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            message = await connection.receive()
            if replies := platform.handle(message):
                speaking = _say(connection, replies, platform.faults.slow_seconds)
                group.create_task(speaking, name="platform reply")


async def _say(connection: Connection, replies: list[Message], after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    for reply in replies:
        await connection.publish(reply)
