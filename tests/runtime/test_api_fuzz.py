"""Random JSON-RPC from the schemas and raw bytes: always answered, never another's session, never the daemon's end.

Three users at once beside a citizen who is served meanwhile (L38, T20, T21).
"""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runtime.api.methods import BY_NAME, METHODS
from runtime.api.openrpc import NUMBERS, errors
from runtime.api.roles import Role
from tests.runtime.api_house import TESTER_UID, ApiHouse, ask, call, tell
from tests.runtime.api_strategies import calls, right
from tests.runtime.house import CITIZEN, OPERATOR_UID, UI_UID, Caller

ENDING = {"session.close", "ui.heartbeat"}
"""End the session: at once, or by the promise of a heartbeat that this UI does not keep."""
UIDS = (UI_UID, OPERATOR_UID, TESTER_UID)
FUZZ = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a house for each try: shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Witness(Caller):
    """A client that keeps every byte it heard."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller.client)
        self.heard = bytearray()
        write = self.client.write

        async def note(data: bytes) -> None:
            self.heard += data
            await write(data)

        self.client.write = note  # type: ignore[method-assign]


def guessed(params: Any, session: str, own: str | None) -> Any:
    """Put a session's id where one belongs: a stranger's, or the caller's own."""
    if isinstance(params, dict) and "session" in params:
        return params | {"session": own or session}
    return params


async def outcome(caller: Caller, number: int) -> tuple[int, str] | None:
    """Return the number and code of the JSON-RPC error that a request had, None for a result."""
    async with asyncio.timeout(600):
        while number not in caller._answers:
            await caller._listen()
    message = caller._answers.pop(number)
    return None if "result" in message else (message["error"]["code"], message["error"]["data"]["code"])


@given(said=st.lists(st.tuples(st.sampled_from(UIDS), st.booleans(), calls()), min_size=1, max_size=25))
@settings(FUZZ, max_examples=25)
def test_every_request_is_answered_as_documented_and_nobody_reaches_anothers_session(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, said: list[Any]
) -> None:
    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        callers = {uid: Witness(house.caller(uid)) for uid in UIDS}
        asked = []
        for uid, guess, (name, params) in said:
            method = BY_NAME[name]
            given_ = guessed(params, session, None) if guess else params
            asked.append((uid, method, ask(callers[uid], method.name, given_)))
            if len(asked) % 8 == 0:
                await asyncio.sleep(1)
        for uid, method, number in asked:
            error = await outcome(callers[uid], number)
            if error is None:
                assert method.role in (None, _role(uid))
                assert "session" not in method.params.__struct_fields__ or method.name.startswith("sharing.")
            else:
                documented = {*errors(method), "session.busy", "session.unknown"}
                assert error[1] in documented, (method.name, error)
                assert error[0] == NUMBERS.get(error[1], -32000)
                assert error[1] != "internal", method.name
        for caller in callers.values():
            heard = bytes(caller.heard).decode()
            assert session not in heard
            assert CITIZEN.name not in heard
            assert CITIZEN.id_number not in heard
        state = (await ui.call("terminal.status"))["state"]
        assert state["session"] == {"state": "verified"}
        assert (await ui.call("progress.mine", session=session))["outcome"] == "done"

    tell(tmp_path_factory.mktemp("house"), story, monkeypatch, longest_seconds=7_000.0, idle_seconds=600.0)


def _role(uid: int) -> Role:
    return dict(zip(UIDS, Role, strict=True))[uid]


@given(said=st.lists(calls().filter(lambda one: one[0] not in ENDING), min_size=5, max_size=25))
@settings(FUZZ, max_examples=25)
def test_a_uis_own_session_takes_any_call_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, said: list[Any]
) -> None:
    """Out of order, contradictory, oversized: a coded answer each, and the session can be closed and the next begun."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        for name, params in said:
            error = await outcome(ui, ask(ui, name, guessed(params, session, session)))
            assert error is None or error[1] in errors(BY_NAME[name]), (name, error)
            assert error is None or error[1] != "internal", name
        await call(ui, "session.close", {"session": session})
        assert await house.verified(ui) != session

    tell(tmp_path_factory.mktemp("house"), story, monkeypatch, longest_seconds=7_000.0, idle_seconds=600.0)


RAW = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=40).map(lambda data: data + b"\n"),
    calls().map(lambda one: msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": one[0], "params": one[1]})),
    st.sampled_from([b"\n", b"{}\n", b"[]\n", b"null\n", b'{"jsonrpc":"2.0","id":1}\n', b"[" * 3_000 + b"\n"]),
    st.from_regex(rb'\{"jsonrpc":"2.0","id":(1|"a"|null|1\.5),"method":"[a-z._]{1,20}","params":.{0,20}\}\n'),
)


@given(lines=st.lists(st.tuples(st.integers(0, 2), RAW), min_size=1, max_size=40), hang_up=st.booleans())
@settings(FUZZ, max_examples=30)
def test_raw_bytes_on_several_connections_harm_nobody(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, lines: list[Any], hang_up: bool
) -> None:
    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        callers = [Witness(house.caller(uid)) for uid in UIDS]
        for number, data in lines:
            callers[number].raw(data or b"\n")
        await asyncio.sleep(1)
        for caller in callers:
            caller._last = 1_000  # not an id of the bytes above
            caller.raw(b"\n")
            if hang_up:
                caller.hang_up()
            else:
                assert await call(caller, "terminal.status", {})
        for line in b"".join(bytes(caller.heard) for caller in callers).splitlines():
            message = json.loads(line)
            assert "result" in message or "method" in message or message["error"]["data"]["code"]
            assert session.encode() not in line
        assert (await ui.call("progress.mine", session=session))["outcome"] == "done"

    tell(tmp_path_factory.mktemp("house"), story, monkeypatch)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_parameters_from_the_schema_fit_it(method):
    @given(right(method))
    @settings(max_examples=10, deadline=None)
    def fits(params: dict[str, Any]) -> None:
        msgspec.json.decode(msgspec.json.encode(params), type=BY_NAME[method.name].params)

    fits()
