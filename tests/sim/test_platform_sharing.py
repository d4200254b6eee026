"""The reference platform's half of shared information: what it grants, counts, refuses and complains of (S1 to S7)."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.messages import Refusal, from_payload, to_payload
from runtime.messages.sharing import (
    DatasetPart,
    DatasetRequest,
    Grants,
    GrantsRequest,
    SharingAnswer,
    SharingQuery,
    Statement,
    StatementRequest,
    UseRequest,
    UseStanding,
    grants_content,
)
from runtime.services.resources import RESOURCES
from sim.people import Population
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.services.sharing import GRANTED, PART_BYTES, Sharing
from sim.platform.sharing import DATASETS, credit_code, dataset, found
from sim.platform.store import Store
from tests.sim.platform_client import CITIZEN, IDENTITY, PEOPLE, SEAL, SIGNING, Clock, Terminal, asserted
from transport.errors import TransportError
from transport.payload import Payload
from transport.sm import sm3

SET, PURPOSE = "service_matters", "public_display"
MONTH = "2027-01"
ANSWERS = (Grants, SharingAnswer, DatasetPart, Statement, UseStanding, Refusal)


class Asker(Terminal):
    """A terminal that asks for shared information."""

    def said(self, message: msgspec.Struct, key: bytes | None = None):
        (answer,) = self.ask(key or secrets.token_bytes(16), to_payload(message))
        return from_payload(Payload(answer.schema, answer.version, personal=True, body=answer.body), *ANSWERS)

    def grants(self) -> Grants:
        return self.said(GrantsRequest())

    def grant(self, resource: str, purpose: str, mode: str) -> str:
        return next(
            one.id for one in self.grants().grants if (one.resource, one.purpose, one.mode) == (resource, purpose, mode)
        )

    def query(self, use: str = "u1", **other) -> SharingQuery:
        grant = self.grant("open_government", PURPOSE, "query")
        honest = SharingQuery(use, grant, "open_government", PURPOSE, "query", b"{}")
        return msgspec.structs.replace(honest, **other)

    def part(self, use: str, version: int = 0, offset: int = 0) -> DatasetRequest:
        return DatasetRequest(use, self.grant(SET, PURPOSE, "dataset"), SET, PURPOSE, version, offset)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def platform(clock: Clock) -> Iterator[Platform]:
    store = Store(":memory:")
    keys = PlatformKeys(SIGNING, SEAL, {"GT-0001": IDENTITY.public})
    yield Platform(store, keys, PEOPLE, Path("no-font"), clock)
    store.close()


@pytest.fixture
def terminal(platform: Platform) -> Asker:
    terminal = Asker(platform)
    terminal.obtain_keys()
    return terminal


def sharing(platform: Platform) -> Sharing:
    return next(one for one in platform.services.all if isinstance(one, Sharing))


def test_grants_are_signed_for_the_terminal_and_a_while(platform, terminal, clock):
    """S4."""
    said = terminal.grants()
    content = grants_content("GT-0001", said.grants, said.issued_unix, suspended=False)
    SIGNING.public.verify(said.signature, content)
    with pytest.raises(TransportError):
        SIGNING.public.verify(said.signature, grants_content("GT-0002", said.grants, said.issued_unix, suspended=False))
    assert {grant.resource for grant in said.grants} == {resource.name for resource in RESOURCES} == GRANTED.keys()
    assert {grant.expires_unix for grant in said.grants} == {int(clock.now) + 30 * 24 * 3600}
    platform.verbs["withdraw_grants"](SET)
    assert SET not in {grant.resource for grant in terminal.grants().grants}


def test_what_is_shared_is_the_same_from_the_same_seed():
    """S1: and its rows are what its schema says."""
    from jsonschema.validators import Draft202012Validator

    code = credit_code(7, 0)
    for resource in RESOURCES:
        parameters = {"credit_code": code} if "credit_code" in resource.parameters["properties"] else {}
        rows = found(resource.name, 7, parameters, CITIZEN)
        assert rows == found(resource.name, 7, parameters, CITIZEN)
        assert rows
        assert Draft202012Validator(resource.parameters).is_valid(parameters)
        for row in rows:
            Draft202012Validator(resource.rows).validate(row)
    assert found("social_insurance", 7, {}, None) == found("household_check", 7, {}, None) == []
    assert found("supervision_results", 7, {"credit_code": "9" * 18}, None) == []


def test_a_data_set_has_some_megabytes_and_each_version_is_another():
    """S2."""
    assert 10**6 < len(dataset(SET, 1, 1, DATASETS[SET])) < 8 * 2**20
    first, second = dataset(SET, 1, 1, 50), dataset(SET, 1, 2, 50)
    assert first != second != dataset(SET, 2, 2, 50)
    assert (first.count(b"\n"), second.count(b"\n")) == (50, 51)
    dataset.cache_clear()
    assert dataset(SET, 1, 1, 50) == first


def test_a_use_is_counted_once_under_its_key_and_told_by_its_name(terminal):
    """S6: a call that comes twice is one use."""
    key, query = secrets.token_bytes(16), terminal.query()
    first, second = terminal.said(query, key), terminal.said(query, key)
    assert first == second
    rows = msgspec.json.decode(first.rows)
    assert (len(rows), first.digest, first.units) == (first.count, sm3(first.rows), 1)
    (line,) = terminal.said(StatementRequest(MONTH)).lines
    assert (line.resource, line.mode, line.uses, line.units) == ("open_government", "query", 1, 1)
    counted = terminal.said(UseRequest("u1")).counted
    assert (counted.resource, counted.mode, counted.units) == ("open_government", "query", 1)
    assert terminal.said(UseRequest("u2")).counted is None
    assert terminal.said(StatementRequest("2027-02")).lines == ()


def test_a_data_set_comes_in_parts_of_one_version(platform, terminal):
    """S2."""
    platform.services.verbs["publish_dataset"](SET)
    content, offset, number = b"", 0, 0
    while True:
        part = terminal.said(terminal.part(f"p{number}", 2 if number else 0, offset))
        assert (part.version, part.offset) == (2, offset)
        content += part.body
        offset, number = len(content), number + 1
        if offset == part.total:
            break
    assert sm3(content) == part.digest
    assert content.count(b"\n") == part.count
    last = terminal.said(terminal.part("last", 2, offset))
    assert (last.body, last.units) == (b"", 0)
    platform.services.verbs["publish_dataset"](SET)
    assert terminal.said(terminal.part("late", 2, offset)) == Refusal("sharing.version_changed", retry=False)
    (line,) = terminal.said(StatementRequest(MONTH)).lines
    assert line.uses == number + 1
    sizes = [min(PART_BYTES, len(content) - at) for at in range(0, len(content), PART_BYTES)]
    assert line.units == sum(-(-size // 1024) for size in sizes)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"grant": "none"}, "sharing.not_granted"),
        ({"purpose": "advertising"}, "sharing.not_granted"),
        ({"mode": "call"}, "sharing.not_granted"),
        ({"resource": "supervision_results"}, "sharing.not_granted"),
        ({"parameters": b"{"}, "sharing.bad_parameters"),
        ({"parameters": b"[]"}, "sharing.bad_parameters"),
        ({"parameters": b'{"page": 0}'}, "sharing.bad_parameters"),
    ],
)
def test_what_the_terminal_should_not_have_sent_is_refused_and_complained_of(terminal, change, code):
    """S4."""
    assert terminal.said(terminal.query(**change)) == Refusal(code, retry=False)
    assert terminal.counters() == {f"complaint {code}": 1}
    assert terminal.said(StatementRequest(MONTH)).lines == ()


def test_a_name_of_a_use_is_used_once(terminal):
    """S6."""
    assert isinstance(terminal.said(terminal.query()), SharingAnswer)
    assert terminal.said(terminal.query()) == Refusal("sharing.use_reused", retry=False)
    assert terminal.counters() == {"complaint sharing.use_reused": 1}


def test_an_offset_behind_the_end_is_complained_of(terminal):
    assert terminal.said(terminal.part("u1", 1, 2**30)) == Refusal("sharing.bad_parameters", retry=False)
    assert terminal.said(terminal.part("u2", 1, -1)) == Refusal("sharing.bad_parameters", retry=False)


def test_a_grant_expires(terminal, clock):
    """S4."""
    query = terminal.query()
    clock.now += 30 * 24 * 3600
    terminal.obtain_keys(at=clock.now)
    assert terminal.said(query) == Refusal("sharing.grant_expired", retry=False)


def test_personal_rows_are_of_the_asserted_citizen(platform, terminal):
    """I4."""
    grant = terminal.grant("household_check", "application", "call")
    query = SharingQuery("u1", grant, "household_check", "application", "call", b"{}")
    assert terminal.said(query) == Refusal("assertion.invalid", retry=False)
    query = msgspec.structs.replace(query, use="u2", assertion=asserted(platform))
    (row,) = msgspec.json.decode(terminal.said(query).rows)
    assert (row["name"], row["id_number"]) == (CITIZEN.name, CITIZEN.id_number)


def test_arrears_suspend_every_use_and_the_terminals_are_told(platform, terminal):
    """S7."""
    platform.verbs["suspend_sharing"]()
    assert terminal.grants().suspended
    assert terminal.said(terminal.query()) == Refusal("sharing.suspended", retry=False)
    assert terminal.said(terminal.part("u2")) == Refusal("sharing.suspended", retry=False)
    assert [command.schema for command in terminal.taken({})] == ["sharing.changed"]
    platform.verbs["suspend_sharing"](on=False)
    assert isinstance(terminal.said(terminal.query("u3")), SharingAnswer)
    (line,) = terminal.said(StatementRequest(MONTH)).lines
    assert line.uses == 1


@pytest.mark.parametrize("how", ["damage", "stale", "count", "rows", "grants", "statement"])
def test_what_is_spoiled_is_what_was_ordered(platform, terminal, clock, how):
    """S3."""
    platform.verbs["spoil_sharing"](how)
    answer = terminal.said(terminal.query())
    said = terminal.grants()
    (line,) = terminal.said(StatementRequest(MONTH)).lines
    rows = msgspec.json.decode(answer.rows) if how != "damage" else [{}] * answer.count
    found_wrong = {
        "damage": sm3(answer.rows) != answer.digest,
        "stale": clock.now - answer.as_of_unix > 365 * 24 * 3600,
        "count": len(rows) != answer.count,
        "rows": any("added" in row for row in rows),
        "grants": not _is_signed(said),
        "statement": line.uses != 1,
    }
    assert [name for name, is_wrong in found_wrong.items() if is_wrong] == [how]
    platform.verbs["mend"]()
    assert _is_signed(terminal.grants())


def _is_signed(said: Grants) -> bool:
    try:
        SIGNING.public.verify(
            said.signature, grants_content("GT-0001", said.grants, said.issued_unix, suspended=said.suspended)
        )
    except TransportError:
        return False
    return True


def test_busy_is_refused_for_the_moment(platform, terminal):
    platform.verbs["busy_sharing"](1)
    assert terminal.said(terminal.query()) == Refusal("sharing.busy", retry=True)
    assert isinstance(terminal.said(terminal.query()), SharingAnswer)


@pytest.mark.parametrize(
    ("verb", "wrong"),
    [("spoil_sharing", {"how": "magic"}), ("publish_dataset", {"resource": "x"}), ("grant_life", {"seconds": 0})],
)
def test_an_order_that_makes_no_sense_is_refused(platform, verb, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        platform.verbs[verb](**wrong)


def test_counts_and_versions_outlive_the_platform(platform, terminal, clock):
    """S6."""
    terminal.said(terminal.query())
    sharing(platform).publish(SET)
    again = Platform(platform.store, platform.keys, Population(), Path("no-font"), clock)
    assert sharing(again).version(SET) == 2
    other = Asker(again)
    other.obtain_keys()
    assert len(other.said(StatementRequest(MONTH)).lines) == 1
