"""Within a second of a session's end nothing that the daemon can reach holds anything of the citizen (T20, rule 1).

On virtual time, by the graph of objects: from the daemon and its tasks through everything that they refer to, until
something belongs to the rig. What lies in memory though nothing refers to it is the matter of `test_proof`.
"""

import asyncio
import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, CoroutineType, FunctionType, ModuleType

import pytest

from devices.personal import PersonalBytes, PersonalText
from sim.privacy import planted
from sim.privacy.finder import Finder
from tests.runtime.house import CERTIFICATE, CITIZEN, PHOTO, Caller, House, tell
from tests.runtime.matters_rig import PLAIN
from tests.runtime.test_matters_story import catalogued, scanned

RETENTION_SECONDS = 1.0
WANTED = Finder(planted.known_before(CITIZEN, PHOTO))
_RIG = ("sim", "tests", "_pytest")


def is_the_rigs(value: object) -> bool:
    if isinstance(value, ModuleType | type | BuiltinFunctionType):
        return True  # nothing that belongs to one life of the daemon
    if isinstance(value, CoroutineType):
        return any(f"/{name}/" in value.cr_code.co_filename for name in _RIG)
    return type(value).__module__.partition(".")[0] in _RIG


def reached() -> Iterator[object]:
    """Give everything that the daemon and its tasks refer to, by and by."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    todo: list[object] = [one for one in gc.get_objects() if type(one).__qualname__ == "Daemon"]
    assert todo, "there is a daemon"
    todo += [task for task in tasks if not is_the_rigs(task.get_coro())]
    seen: set[int] = set()
    kept: list[object] = []  # so that no number comes twice
    while todo:
        value = todo.pop()
        if id(value) in seen or is_the_rigs(value):
            continue
        seen.add(id(value))
        kept.append(value)
        yield value
        if isinstance(value, FunctionType):
            todo += [value.__closure__, value.__defaults__, value.__kwdefaults__]  # not its module
        else:
            todo += gc.get_referents(value)


def held() -> set[str]:
    """Return what the daemon can reach of the citizen, and `wipeable` for a personal value that was not wiped."""
    found: set[str] = set()
    for value in reached():
        if isinstance(value, PersonalText | PersonalBytes) and not value.wiped:
            found.add("wipeable")
        data = value.encode(errors="surrogatepass") if isinstance(value, str) else value
        if isinstance(data, bytes | bytearray):
            found |= {what for _, what, _ in WANTED.find(bytes(data))}
    return found


async def serve(house: House, ui: Caller) -> str:
    """Verify the citizen, print a certificate and leave an application half done; return the session."""
    await catalogued(ui)
    session = await house.verified(ui)
    printed = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
    assert printed["outcome"] == "done"
    begun = await ui.call("application.begin", session=session, matter=PLAIN)
    assert begun["outcome"] == "done"
    filled = await ui.call("application.form", session=session, values=planted.FREE_FORM)
    assert filled["outcome"] == "done"
    await scanned(ui, session)
    return session


@pytest.mark.parametrize("end", ["closed", "client_lost", "idle"])
def test_nothing_is_held_a_second_after_the_session(end, tmp_path, monkeypatch):
    """However it ends; the same search finds everything while it is open."""

    async def story(house: House, ui: Caller) -> None:
        witness = house.caller()
        await witness.call("events.subscribe")
        session = await serve(house, ui)
        assert {"name", "ID number", "address", "telephone", "form's address", "wipeable"} <= held()
        if end == "closed":
            await ui.call("session.close", session=session)
        elif end == "client_lost":
            ui.hang_up()
        await witness.component("session", "clearing")
        await asyncio.sleep(RETENTION_SECONDS)
        assert held() == set()

    tell(tmp_path, story, monkeypatch, idle_seconds=30.0)


def test_nothing_is_held_after_a_check_that_failed(tmp_path, monkeypatch):
    """The card leaves while it is read, then reads as damaged: errors hold on to nothing of it."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.consenting(ui)
        house.place_card()
        house.reader.bad_check_digit()
        answer = await ui.call("session.verify_identity", session=session)
        assert answer["code"] == "idcard.bad_check_digit"
        house.reader.remove_card()
        await asyncio.sleep(RETENTION_SECONDS)
        assert held() == set()

    tell(tmp_path, story, monkeypatch)
