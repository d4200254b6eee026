"""What an eavesdropper hears and an attacker can do, with the real daemon, platform and mosquitto (S5, T20, I7)."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sim import assets, mosquitto
from sim.control import ask
from sim.delivery import count, waiting
from sim.enrolment import Desk
from sim.rig import Rig, open_rig
from sim.scan import needles, scan_bytes, scan_files
from sim.settings import RigFiles, RigSettings, free_port, make_rig
from sim.story import CITIZEN, CITIZENS_FACE, Story
from sim.terminal import Terminal, connected, daemon
from sim.trust import _enrol
from tests.sim.wiretap import Meddler, recorded, stay_subscribed
from transport.mqtt import MqttUplink
from transport.uplink import Connection, Message, UplinkLost
from vision.store import cache_directory

DEADLINE_SECONDS = 60.0
OTHER = "RIG-0002"
"""Another terminal of the same platform, without a line of its own."""


class Silent:
    """A narrator that says nothing."""

    def doing(self, what: str):
        return nullcontext()

    def guidance(self, text: str) -> None: ...

    def done(self, what: str, seconds: float) -> None: ...

    def told(self, who: str, outcome: Any) -> None: ...


@dataclass
class Scene:
    """A rig on mosquitto, the terminal behind a recorder and a meddler, and a client of the broker that hears all."""

    rig: Rig
    files: RigFiles
    meddler: Meddler
    wire: bytearray
    broker: list[Message] = field(default_factory=list)
    attacker: "asyncio.Future[Connection]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not condition():  # noqa: ASYNC110 (other processes')
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not in time: {what}") from None

    async def platform(self, verb: str, **arguments: Any) -> Any:
        return await ask(self.files.platform_control, "platform", verb, arguments)

    async def complaints(self) -> dict[str, int]:
        counters = (await self.platform("summary"))["counters"]
        return {name.removeprefix("complaint "): n for name, n in counters.items() if name.startswith("complaint ")}

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What the daemon's log has of an event; a reason to drop messages comes once."""
        lines = self.files.daemon_log.read_text(encoding="utf-8").splitlines()
        return [one for line in lines if line.startswith("{") and (one := json.loads(line))["event"] == event]

    def dropped(self) -> set[str]:
        return {one["code"] for one in self.logged("message_dropped")}

    def last(self, place: str) -> bytes:
        return next(message.body for message in reversed(self.meddler.seen) if message.topic.endswith(place))

    async def publish(self, place: str, body: bytes, terminal: str = "RIG-0001") -> None:
        """As the attacker: what he likes, where he likes."""
        await self.attacker.result().publish(Message(f"govterm/v1/{terminal}/{place}", body))


@asynccontextmanager
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr("sim.rig.broker_process", mosquitto.broker_process)
    prepared = await asyncio.to_thread(assets.prepare, cache_directory() / "assets")
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rig-")), "rig")
        files, meddler, heard = RigFiles(directory, directory), Meddler(), bytearray()
        port, tapped = free_port(), free_port()
        make_rig(files, RigSettings(broker_port=tapped, person="nobody"))
        _enrol(Desk(files.trust_directory), directory / "other", OTHER, tapped)
        inner = await stack.enter_async_context(meddler.between(files.trust, port))
        await stack.enter_async_context(recorded(tapped, inner, heard))
        settings = RigSettings(broker_port=port, person="nobody")
        rig = await stack.enter_async_context(open_rig(files, settings, prepared))
        await stay_subscribed(files.trust, port, "archive")
        made = Scene(rig, files, meddler, heard)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(made, port), name="eavesdropper")
            await made.attacker
            yield made
            listening.cancel()


async def _listen(made: Scene, port: int) -> None:
    """Hear every topic, as a client of the broker with the platform's rights."""
    trust = made.files.trust
    uplink = MqttUplink(
        "127.0.0.1",
        port,
        "eavesdropper",
        ca_file=trust.ca,
        certificate_file=trust.platform_certificate,
        private_key_file=trust.platform_key,
    )
    with suppress(UplinkLost):
        async with uplink.connect(["#"], Message("govterm/v1/eavesdropper", b"gone")) as connection:
            made.attacker.set_result(connection)
            while True:
                made.broker.append(await connection.receive())


def test_nothing_of_the_citizen_is_on_the_wire_or_at_the_broker(monkeypatch):
    """A whole session: card, face, certificate, records. Not in TLS, not inside it, not in the broker's files."""
    asyncio.run(_eavesdrop(monkeypatch))


async def _eavesdrop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch) as made:
        story = Story(made.rig, Silent())
        async with story.terminal() as terminal:
            await story.serve_citizen(terminal)
            await story.refuse_impostor(terminal)
            await story.wait_for_delivery()
        report = await story.report()
        assert report.failures == []
        assert report.delivery.sent > 0
        citizen = made.rig.people.citizen(CITIZEN)
        texts = {"name": citizen.name, "ID number": citizen.id_number, "address": citizen.address}
        wanted = needles(texts, {"photo": made.rig.photos[CITIZENS_FACE]})
        at_broker = b"".join(message.topic.encode() + message.body for message in made.broker)
        heard = {"wire": bytes(made.wire), "inside TLS": bytes(made.meddler.plain), "broker": at_broker}
        await made.rig.do("broker", "stop")
        stored = made.files.trust_directory / "mosquitto"
        assert [finding for place, data in heard.items() for finding in scan_bytes(data, wanted, place)] == []
        assert scan_files([stored], wanted) == []
        _was_worth_searching(made, heard, stored / "mosquitto.db")
        for text in texts.values():
            for encoding in ("utf-8", "gb18030", "utf-16-le"):
                planted = heard["inside TLS"] + text.encode(encoding)
                assert scan_bytes(planted, wanted, "planted"), "the search finds what is there"


def _was_worth_searching(made: Scene, heard: dict[str, bytes], database: Path) -> None:
    """The call and its answer went this way: sealed, in TLS, and through the broker's hands and files."""
    sealed = {stream: [m.body for m in made.meddler.seen if m.topic.endswith(stream)] for stream in _SEALED}
    assert all(sealed.values())
    assert sum(map(len, sealed["down/answer"])) > 10_000, "the certificate"
    for body in (one for bodies in sealed.values() for one in bodies):
        assert body in heard["inside TLS"]
        assert body in heard["broker"]
        assert body not in heard["wire"]
    assert len(heard["wire"]) > len(heard["inside TLS"])
    assert b"govterm/v1" not in heard["wire"], "TLS hides even the topics"
    kept = database.read_bytes()
    assert all(body in kept for body in sealed["up/call"]), "the broker's disk holds what it could not read"


_SEALED = ("up/call", "up/record", "up/taken", "down/receipt", "down/answer")


def test_an_attacker_who_may_publish_anything_is_refused_and_the_line_goes_on(monkeypatch):
    """He holds the platform's certificate and owns the broker: he may alter, hold back, repeat and move messages."""
    asyncio.run(_attack(monkeypatch))


async def _attack(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch) as made:
        async with daemon(made.files), connected(made.files) as terminal:
            await _attack_the_line(made, terminal)
        counted = count(made.files.state / "journal.db", made.files.platform_database, "RIG-0001")
    assert (counted.lost, counted.duplicates, counted.altered) == (0, 0, 0)
    assert counted.sent >= 4


async def _attack_the_line(made: Scene, terminal: Terminal) -> None:
    def version() -> str | None:
        return terminal.state.get("catalogue", {}).get("details", {}).get("announced")

    journal = made.files.state / "journal.db"
    await terminal.wait_until("platform", "online")
    await made.platform("announce_catalogue", version=1)
    await made.until(lambda: version() == "1", "the first announcement")
    await made.until(lambda: not waiting(journal), "the record of it")
    assert (made.dropped(), await made.complaints()) == (set(), {})

    await _towards_the_terminal(made, version)
    await _towards_the_platform(made)

    await made.platform("announce_catalogue", version=4)
    await made.until(lambda: version() == "4", "the last announcement")
    await made.until(lambda: not waiting(journal), "every record")
    assert [one["event"] for one in [*made.logged("line_up"), *made.logged("line_down")]] == ["line_up"]


async def _towards_the_terminal(made: Scene, version: Callable[[], str | None]) -> None:
    held = _hold_one(made, "down/command")
    await made.platform("announce_catalogue", version=2)
    await made.until(lambda: bool(held), "a command to hold back")
    upward = next(message.body for message in made.meddler.seen if message.topic.endswith("up/taken"))
    await made.publish("down/command", upward)
    await made.until(lambda: made.dropped() == {"envelope.unknown_key"}, "re-addressed")
    await made.publish("down/receipt", held[0])
    await made.until(lambda: "envelope.forged" in made.dropped(), "re-labelled")
    await made.publish("down/command", _flipped(held[0]))
    await made.platform("announce_catalogue", version=3)
    await made.until(lambda: version() == "3", "what was held back comes again, with the next")
    taken = made.last("down/command")
    await made.publish("down/command", held[0])
    await made.until(lambda: "envelope.reordered" in made.dropped(), "reordered")
    await made.publish("down/command", taken)
    await made.until(lambda: "envelope.replayed" in made.dropped(), "replayed")
    assert made.dropped() == {f"envelope.{reason}" for reason in ("unknown_key", "forged", "reordered", "replayed")}
    commands = [one["code"] for one in made.logged("command_taken")]
    assert commands == [None] * 3, "each command was taken once, and nothing else"


async def _towards_the_platform(made: Scene) -> None:
    await made.until(lambda: not waiting(made.files.state / "journal.db"), "a quiet moment")
    before = await made.complaints()
    held = _hold_one(made, "up/record")
    await made.platform("announce_maintenance", begins_in_seconds=3_600, seconds=60)
    await made.until(lambda: bool(held), "a record to hold back")
    for place, body, terminal, reason in (
        ("up/call", held[0], "RIG-0001", "envelope.forged"),
        ("up/record", _flipped(held[0]), "RIG-0001", "envelope.forged"),
        ("up/record", made.last("down/command"), "RIG-0001", "envelope.unknown_key"),
        ("up/record", held[0], OTHER, "key.none"),
    ):
        await made.publish(place, body, terminal)
        await _complained(made, before, reason)
    await made.until(lambda: not waiting(made.files.state / "journal.db"), "the record, sent again")
    for body, reason in ((held[0], "envelope.reordered"), (made.last("up/record"), "envelope.replayed")):
        await made.publish("up/record", body)
        await _complained(made, before, reason)
    assert await made.complaints() == before


async def _complained(made: Scene, before: dict[str, int], reason: str) -> None:
    """Wait for one complaint more, and count it."""
    before[reason] = before.get(reason, 0) + 1
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await made.complaints() != before:  # noqa: ASYNC110 (another process's)
            await asyncio.sleep(0.05)


def _hold_one(made: Scene, place: str) -> list[bytes]:
    """Hold back the next message of a stream, and give it once it came."""
    held: list[bytes] = []

    def hold(message: Message) -> bytes | None:
        if held or not message.topic.endswith(place):
            return message.body
        held.append(message.body)
        return None

    made.meddler.hook = hold
    return held


def _flipped(body: bytes) -> bytes:
    return body[:-20] + bytes([body[-20] ^ 1]) + body[-19:]
