"""The reference platform's catalogue: published, signed, announced, issued (T17)."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.messages import from_payload
from runtime.messages.line import CatalogueAnnouncement
from runtime.messages.matters import (
    Catalogue,
    CatalogueCurrent,
    CatalogueIssue,
    CatalogueRequest,
    catalogue_content,
)
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.services.matters import Matters
from sim.platform.store import Store
from tests.sim.platform_client import IDENTITY, PEOPLE, SEAL, SIGNING, Clock, Terminal
from transport.payload import Payload
from transport.sm import sm3


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(":memory:")
    yield made
    made.close()


@pytest.fixture
def platform(store: Store) -> Platform:
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public})
    return Platform(store, keys, PEOPLE, Path("font.ttc"), Clock())


@pytest.fixture
def terminal(platform: Platform) -> Terminal:
    one = Terminal(platform)
    one.obtain_keys()
    return one


def ask(terminal: Terminal, have: int, number: int = 1) -> CatalogueIssue | CatalogueCurrent:
    (answer,) = terminal.ask(number.to_bytes(16), _payload(CatalogueRequest(have)))
    return from_payload(Payload(answer.schema, answer.version, False, answer.body), CatalogueIssue, CatalogueCurrent)


def _payload(message: msgspec.Struct) -> Payload:
    from runtime.messages import to_payload

    return to_payload(message)


def test_a_new_platform_issues_its_first_version_signed(terminal: Terminal) -> None:
    issue = ask(terminal, 0)
    assert isinstance(issue, CatalogueIssue)
    assert issue.version == 1
    SIGNING.public.verify(issue.signature, catalogue_content(1, sm3(issue.content)))
    assert len(msgspec.json.decode(issue.content, type=Catalogue).matters) >= 12


def test_who_has_it_is_told_so(terminal: Terminal) -> None:
    assert ask(terminal, 1) == CatalogueCurrent(1)


def test_the_next_quarter_is_announced_with_its_digest(terminal: Terminal) -> None:
    platform = terminal.platform
    assert platform.verbs["publish_catalogue"]() == 2
    (command,) = terminal.taken({})
    said = from_payload(Payload(command.schema, command.version, False, command.body), CatalogueAnnouncement)
    issue = ask(terminal, 1)
    assert isinstance(issue, CatalogueIssue)
    assert (said.catalogue_version, said.digest) == (2, sm3(issue.content))
    first, second = (_matters(terminal, version) for version in (1, 2))
    assert set(first) - set(second) == {"parking_permit"}
    assert set(second) - set(first) == {"talent_subsidy"}
    changed = {name for name in set(first) & set(second) if first[name] != second[name]}
    assert changed == {"property_search", "unemployment_registration"}
    assert all(second[name].version == first[name].version + 1 for name in changed)


def _matters(terminal: Terminal, version: int) -> dict:
    service = next(one for one in terminal.platform.services.all if isinstance(one, Matters))
    return {matter.id: matter for matter in service.catalogue(version).matters}


def test_a_platform_that_restarts_keeps_its_catalogue(store: Store, platform: Platform) -> None:
    platform.verbs["publish_catalogue"]()
    again = Platform(store, platform.keys, PEOPLE, Path("font.ttc"), Clock())
    assert next(one for one in again.services.all if isinstance(one, Matters)).version == 2


@pytest.mark.parametrize("how", ["signature", "json", "schema", "device", "digest", "older"])
def test_a_spoiled_catalogue_is_one_that_no_terminal_may_take(terminal: Terminal, how: str) -> None:
    right = ask(terminal, 0)
    terminal.platform.faults.spoil_catalogue(how)
    spoiled = ask(terminal, 5 if how == "older" else 0, number=2)
    assert isinstance(right, CatalogueIssue)
    assert isinstance(spoiled, CatalogueIssue)
    assert spoiled != right


def test_a_catalogue_is_spoiled_in_a_known_way_only(platform: Platform) -> None:
    with pytest.raises(ValueError, match="how"):
        platform.faults.spoil_catalogue("perhaps")
