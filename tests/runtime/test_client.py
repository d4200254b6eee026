"""The client's wire: answers, refusals, notifications, and daemons that answer late, wrong, too long or never."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.client.wire import LINE_LIMIT_BYTES, NOTIFICATIONS_KEPT, ClientError, RpcError, open_wire


@asynccontextmanager
async def daemon(tmp_path, answer):
    """Serve one client: `answer(request)` gives the bytes to send, or None to hang up."""

    serving = []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        with suppress(ConnectionError):
            while line := await reader.readline():
                reply = answer(json.loads(line))
                if reply is None:
                    break
                writer.write(reply)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    path = tmp_path / "api.sock"
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield path
        await asyncio.gather(*serving)


def line(**message):
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


async def test_a_result_comes_back(tmp_path):
    async with daemon(tmp_path, lambda asked: line(id=asked["id"], result=asked)) as path, open_wire(path) as client:
        assert await client.call("terminal.status") == {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "terminal.status",
            "params": {},
        }
        assert (await client.call("x", {"a": "王"}))["params"] == {"a": "王"}


async def test_calls_may_be_answered_in_any_order(tmp_path):
    held = []

    def answer(asked):
        held.append(asked["id"])
        return b"".join(line(id=one, result=one) for one in reversed(held)) if len(held) == 3 else b""

    async with daemon(tmp_path, answer) as path, open_wire(path) as client:
        assert await asyncio.gather(*(client.call("x") for _ in range(3))) == [1, 2, 3]


async def test_a_refusal_is_coded(tmp_path):
    data = {"code": "session.unknown", "retry": True, "advice": "open one"}
    error = {"code": -32000, "message": "there is no such session", "data": data}
    async with daemon(tmp_path, lambda asked: line(id=asked["id"], error=error)) as path, open_wire(path) as client:
        with pytest.raises(RpcError, match="no such session") as caught:
            await client.call("session.close", {"session": "x"})
    refusal = caught.value
    assert (refusal.number, refusal.code, refusal.retry, refusal.advice) == (
        -32000,
        "session.unknown",
        True,
        "open one",
    )
    assert refusal.data == data


async def test_a_refusal_that_names_no_call_ends_every_call(tmp_path):
    refusal = line(id=None, error={"code": -32700, "message": "not JSON"})
    async with daemon(tmp_path, lambda _: refusal) as path, open_wire(path) as client:
        with pytest.raises(RpcError) as caught:
            await client.call("x")
    assert caught.value.code == "rpc.error"


async def test_notifications_come_in_order_and_end_with_the_connection(tmp_path):
    def answer(asked):
        if asked["method"] == "bye":
            return None
        return line(method="n", params=1) + line(id=asked["id"], result=0) + line(method="n", params=2)

    async with daemon(tmp_path, answer) as path, open_wire(path) as client:
        await client.call("x")
        with pytest.raises(ClientError, match="closed the connection"):
            await client.call("bye")
        assert [(one.method, one.params) async for one in client.notifications()] == [("n", 1), ("n", 2)]
        assert [one async for one in client.notifications()] == []
        with pytest.raises(ClientError, match="closed the connection"):
            await client.call("x")


async def test_untaken_notifications_take_bounded_memory(tmp_path):
    many = b"".join(line(method="n", params=number) for number in range(NOTIFICATIONS_KEPT + 500))
    async with daemon(tmp_path, lambda asked: many + line(id=asked["id"], result=0)) as path, open_wire(path) as client:
        await client.call("x")
        kept = client.notifications()
        assert (await anext(kept)).params == 500
        await kept.aclose()


async def test_an_answer_that_never_comes_ends_in_time_and_a_late_one_is_dropped(tmp_path):
    late = []

    def answer(asked):
        late.append(asked["id"])
        return b"" if len(late) == 1 else line(id=late[0], result="late") + line(id=asked["id"], result="right")

    async with daemon(tmp_path, answer) as path, open_wire(path) as client:
        with pytest.raises(ClientError) as caught:
            await client.call("x", seconds=0.05)
        assert caught.value.code == "client.no_answer"
        assert await client.call("x") == "right"


@pytest.mark.parametrize("garbage", [b"not json\n", b'{"id": "text"}\n', b"x" * (LINE_LIMIT_BYTES * 2 + 2), b"[]\n"])
async def test_a_daemon_that_does_not_speak_the_protocol_is_told(tmp_path, garbage):
    async with daemon(tmp_path, lambda _: garbage) as path, open_wire(path) as client:
        with pytest.raises(ClientError) as caught:
            await client.call("x")
    assert caught.value.code == "client.protocol"


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_answer_is_a_result_or_a_coded_error(tmp_path, garbage):
    async def ask():
        async with daemon(tmp_path, lambda _: garbage + b"\n") as path, open_wire(path) as client:
            return await client.call("x", seconds=0.02)

    try:
        asyncio.run(ask())
    except (ClientError, RpcError) as error:
        code = error.code
    else:
        code = "result"
    assert code in {"client.no_answer", "client.protocol", "rpc.error", "result"}


async def test_nobody_there_is_told(tmp_path):
    with pytest.raises(ClientError, match=r"no daemon answers at .*: No such file or directory") as caught:
        async with open_wire(tmp_path / "none.sock"):
            pass
    assert caught.value.code == "client.unreachable"
    assert caught.value.retry
