"""What a platform's broker keeps apart: each terminal its own topics, by certificate or by password (T20)."""

import asyncio

import pytest

from sim import mosquitto
from tests.transport.line_rig import TERMINAL
from tests.transport.mqtt_rig import DOWN, UP, WILL, lost, platform, terminal, terminal_uplink
from transport import wire
from transport.uplink import Message

OTHER = "GT-0002"


@pytest.mark.parametrize("topic", [wire.topic(OTHER, "up", "record"), DOWN, "govterm/v1/platform", "elsewhere"])
async def test_a_terminal_that_publishes_elsewhere_is_not_heard(trust, topic):
    """The broker acknowledges and drops it; the terminal's own line is unharmed."""
    async with (
        mosquitto.broker_process(trust.ca.parent) as (_, port),
        platform(trust, port, "#") as there,
        terminal(trust, port) as here,
        asyncio.timeout(10),
    ):
        await here.publish(Message(topic, b"elsewhere"))
        await here.publish(Message(UP, b"its own"))
        assert await there.receive() == Message(UP, b"its own")
        await there.publish(Message(DOWN, b"answer"))
        assert await here.receive() == Message(DOWN, b"answer")


@pytest.mark.parametrize("topic", ["#", "govterm/v1/+/down/#", "govterm/v1/+/up/#"])
async def test_a_terminal_hears_nothing_that_is_said_to_or_by_another(trust, topic):
    """The broker grants the subscription and delivers nothing for it."""
    async with (
        mosquitto.broker_process(trust.ca.parent) as (_, port),
        platform(trust, port) as there,
        terminal_uplink(trust, port).connect([topic, DOWN], WILL) as here,
        asyncio.timeout(10),
    ):
        await there.publish(Message(wire.topic(OTHER, "down", "answer"), b"to another"))
        await there.publish(Message(wire.topic(OTHER, "up", "call"), b"of another"))
        await there.publish(Message(DOWN, b"to this one"))
        assert await here.receive() == Message(DOWN, b"to this one")


async def test_a_user_name_and_a_password_where_a_platform_insists(trust, tmp_path):
    """Beside the certificate; a wrong one, or none, is refused at once."""
    files = {name: tmp_path / name for name in ("right", "wrong", "platform")}
    for name, file in files.items():
        file.write_text(f"{name} password\n", encoding="utf-8")
    users = {TERMINAL: "right password", "platform": "platform password"}
    as_platform = {"username": "platform", "password_file": files["platform"]}
    async with (
        mosquitto.broker_process(trust.ca.parent, passwords=users) as (_, port),
        asyncio.timeout(10),
        platform(trust, port, **as_platform) as there,
    ):
        async with terminal(trust, port, username=TERMINAL, password_file=files["right"]) as here:
            await here.publish(Message(UP, b"let in"))
            assert await there.receive() == Message(UP, b"let in")
        wrong = terminal_uplink(trust, port, username=TERMINAL, password_file=files["wrong"])
        for uplink in (wrong, terminal_uplink(trust, port)):
            assert "Not authorized" in str(await lost(uplink))
