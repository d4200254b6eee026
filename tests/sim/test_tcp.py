"""A virtual device on a TCP port: the NUT server with its real driver, unplugged, late and taken over."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from devices.link import LinkLost
from devices.tcp import TcpLink, open_tcp_link
from devices.ups.nut_protocol import encode_line
from runtime.board import open_link
from runtime.probe import Bench, make_settings, probe
from runtime.probe_steps import probe_steps
from sim.devices.nut import PASSWORD, VirtualNutServer
from sim.tcp import TcpHost

QUESTION, ANSWER = encode_line("GET", "VAR", "kiosk", "ups.status"), b"VAR kiosk ups.status OL\n"
DEADLINE_SECONDS = 10


async def connect(host: TcpHost) -> TcpLink:
    return await open_tcp_link(f"tcp://127.0.0.1:{host.port}", 0)


async def ask(link: TcpLink) -> bytes:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await link.write(QUESTION)
        return await link.read()


async def test_a_ups_behind_a_server_passes_its_probe(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    async with TcpHost(VirtualNutServer()) as host:
        port = f"nut://govterm@127.0.0.1:{host.port}/kiosk"
        settings = make_settings("ups", port, None, [f'password_file = "{tmp_path / "password"}"'])
        report = await probe(Bench("ups", settings, open_link), probe_steps("ups"))
    assert report.passed, report
    assert report.identity == "SANTAK C1K"
    assert [step.name for step in report.steps if step.outcome == "skipped"] == ["second open is refused"]


async def test_unplugged_it_is_gone_and_plugged_again_it_is_there() -> None:
    async with TcpHost(VirtualNutServer()) as host:
        link = await connect(host)
        assert await ask(link) == ANSWER
        await host.unplug()
        await host.unplug()
        with pytest.raises(LinkLost):
            await ask(link)
        await link.close()
        with pytest.raises(LinkLost):
            await connect(host)
        await host.plug()
        await host.plug()
        again = await connect(host)
        assert await ask(again) == ANSWER
        await again.close()


async def test_the_last_client_is_served() -> None:
    async with TcpHost(VirtualNutServer()) as host:
        first = await connect(host)
        assert await ask(first) == ANSWER
        second = await connect(host)
        assert await ask(second) == ANSWER
        with pytest.raises(LinkLost):
            await ask(first)
        await first.close()
        await second.close()


async def test_faults_spoil_answers_until_they_are_mended() -> None:
    async with TcpHost(VirtualNutServer()) as host:
        link = await connect(host)
        host.verbs["fault"](kind="half", times=5)
        assert await ask(link) == ANSWER[: len(ANSWER) // 2]
        host.verbs["mend"]()
        assert await ask(link) == ANSWER
        host.verbs["fault"](kind="unplug")
        assert await ask(link) == ANSWER[: len(ANSWER) // 2]
        with pytest.raises(LinkLost):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await link.read()
        with suppress(LinkLost):
            await link.close()


async def test_a_taken_port_is_an_error() -> None:
    async with TcpHost(VirtualNutServer()) as host:
        with pytest.raises(OSError, match="in use"):
            await TcpHost(VirtualNutServer(), host.port).plug()
