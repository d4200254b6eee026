"""What goes on when the daemon stopped without clean-up: it is started again, settles, and the rest is examined."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from runtime.messages import SupervisionEvent
from sim.caller import Caller, CallRefused
from sim.crash.life import WatchedWorld
from sim.crash.points import Point, Points
from sim.crash.sabotage import Sabotage
from sim.crash.service import Remains, Service
from sim.world import CITIZEN, World

SETTLED_SECONDS = 120.0
"""Virtual seconds within which a restarted daemon has settled what was open, with the platform reachable."""
OLD_KEY = "complaint envelope.unknown_key"
"""What the platform rightly says of a message that comes so late that its keys were replaced twice."""
AWAITED = ("alarm", "supervision")


async def settle(
    service: Service,
    past: WatchedWorld,
    content: bytes,
    directory: Path,
    *,
    is_late: bool = False,
    sabotage: Sabotage | None = None,
    on_point: Callable[[WatchedWorld, Point], None] = lambda _world, _point: None,
) -> list[str]:
    """Start the daemon again on a journal of this content, let it settle, and return what does not hold.

    What the broker had for the platform arrives before that or, where it `is_late`, when all is settled. `on_point` is
    told of the points of settling. Where something does not hold, the journal that it was started on and what it and
    the platform made of it are left in `directory`.
    """
    past.bury()
    if not is_late:
        past.deliver()
    if service.meanwhile is not None:
        await service.meanwhile(past)
    if sabotage is not None and sabotage in service.sabotages:
        service.sabotages[sabotage](past.store.database)
    past.copy_files(directory)
    complaints = _complaints(past)
    points = Points(lambda point: on_point(world, point))
    world = WatchedWorld(directory, past.outside, points, content)
    world.client = past.client
    points.arm()
    platform = asyncio.create_task(world.serve_platform(), name="platform")
    daemon = asyncio.create_task(world.daemon(), name="daemon")
    ui = world.caller()
    try:
        await world.settled(ui)
        failures = await _rest(world)
        points.disarm()
        if is_late:
            past.deliver()
            failures += await _rest(world)
        before, pieces = _opened(past.watched.written), _pieces(world)
        told = past.client.transcript
        remains = Remains(ui, told, before, world.journal, world.store.database, pieces)
        failures += await service.check(remains)
        failures += await _next_citizen(world, ui)
        failures += _untold(world.journal)
        failures += _personal(world, content, service.secrets)
        new = {name: count - complaints.get(name, 0) for name, count in _complaints(world).items()}
        if is_late:
            new.pop(OLD_KEY, None)
        failures += [f"the platform complains: {name}" for name, count in new.items() if count > 0]
    except (TimeoutError, ConnectionError, AssertionError) as error:
        failures = [f"the restarted daemon does not come up or answer: {error!r}"]
    if daemon.done():
        failures.append(f"the restarted daemon ended: {daemon.exception()!r}")
    if failures:
        (directory / "journal-before.db").write_bytes(content)
        (directory / "journal.db").write_bytes(world.journal.serialize())
        (directory / "platform.db").write_bytes(world.store.database.serialize())
    for task in (daemon, platform):
        task.cancel()
    await asyncio.gather(daemon, platform, return_exceptions=True)
    return failures


async def _rest(world: WatchedWorld) -> list[str]:
    """Wait until nothing is open and everything is delivered; return what is not, after SETTLED_SECONDS.

    The citizen waits for the bank card, and takes it.
    """
    reader = world.outside.cardreader
    for _ in range(int(SETTLED_SECONDS)):
        await asyncio.sleep(1)
        await world.take_bank_card()
        if not (found := left(world.journal)) and reader.card is None:
            break
    kept = reader.card is not None or reader.bin
    return [*found, *(["the bank card was not handed back"] if kept else [])]


async def _next_citizen(world: World, ui: Caller) -> list[str]:
    """Return why the next citizen cannot be served."""
    world.reader.remove_card()
    try:
        session = await world.verified(ui)
        await ui.call("session.close", session=session)
    except CallRefused as refused:
        return [f"the next citizen is turned away: {refused}"]
    return []


def _untold(journal: sqlite3.Connection) -> list[str]:
    """Return which outcomes the platform is not told of by one event each (T12)."""
    statement = "SELECT body FROM records WHERE schema = 'supervision.event'"
    events = [msgspec.msgpack.decode(body, type=SupervisionEvent) for (body,) in journal.execute(statement)]
    told = Counter((one.step, one.outcome) for one in events)
    ends = Counter(journal.execute("SELECT kind, state FROM intents WHERE state <> 'open'").fetchall())
    return [
        f"{count} intents of {kind} ended {outcome}, and {told[kind, outcome]} events tell of it"
        for (kind, outcome), count in ends.items()
        if told[kind, outcome] < count or (outcome != "unknown" and told[kind, outcome] > count)
    ]  # an effect that nobody knows of at first is told as unknown too


def _personal(world: World, content: bytes, said: tuple[str, ...]) -> list[str]:
    """Return where the citizen is written down (rule 1): in the journal, before or after, or the audit log."""
    places = {
        "the journal before": content,
        "the journal": world.journal.serialize(),
        "the audit log": world.settings.audit_file.read_bytes(),
    }
    secrets = (CITIZEN.name, CITIZEN.id_number, CITIZEN.address, *said)
    return [
        f"{place} holds personal data"
        for place, written in places.items()
        if any(secret.encode() in written for secret in secrets)
    ]


def left(journal: sqlite3.Connection) -> list[str]:
    """Return what a daemon at rest has none of: open intents, payments without an end, records on their way."""
    intents = journal.execute("SELECT kind, count(*) FROM intents WHERE state = 'open' GROUP BY kind")
    found = [f"{count} intents of {kind} are still open" for kind, count in intents.fetchall()]
    under_way = journal.execute(
        "SELECT count(*) FROM payments WHERE state IN ('open', 'paid', 'reversing')"
        " OR order_id IN (SELECT order_id FROM payment_ends)"
    ).fetchone()[0]
    if under_way:
        found.append(f"{under_way} payments have not come to an end")
    waiting = journal.execute(
        "SELECT stream, count(*) FROM records WHERE sequence >"
        " coalesce((SELECT sequence FROM cursors WHERE cursors.stream = records.stream), 0) GROUP BY stream"
    )
    for stream, count in waiting.fetchall():
        if stream.rpartition("-")[0] in AWAITED:
            found.append(f"{count} records of {stream.rpartition('-')[0]} were not delivered")
    return found


def _pieces(world: World) -> int:
    """Return how many pieces of paper there are with something on them."""
    return len(world.printer.papers) + (not world.printer.hanging.blank)


def _complaints(world: World) -> dict[str, int]:
    counters = world.store.counters()
    return {name: count for name, count in counters.items() if name.startswith("complaint")}


def is_open(content: bytes) -> bool:
    """Whether a journal of this content holds an effect whose outcome is not known."""
    with closing(_opened(content)) as journal:
        return journal.execute("SELECT 1 FROM intents WHERE state = 'open'").fetchone() is not None


def _opened(content: bytes) -> sqlite3.Connection:
    journal = sqlite3.connect(":memory:", isolation_level=None)
    journal.deserialize(content)
    return journal
