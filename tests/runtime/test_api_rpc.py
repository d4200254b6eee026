"""JSON-RPC 2.0 in lines: total on any bytes, bounded in memory, every refusal coded (H12, L38)."""

import itertools
import json
import sys

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.api import rpc
from runtime.api.rpc import LineSplitter, Request, RpcError, parse
from runtime.api.shapes import Nothing

LIMIT = 4_096


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def feed(splitter: LineSplitter, chunks: list[bytes]) -> list[bytes]:
    return [line for chunk in chunks for line in splitter.feed(chunk)]


@given(
    lines=st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ")), max_size=8),
    cuts=st.lists(st.integers(0, 500), max_size=12),
)
def test_any_chunking_gives_the_same_lines(lines, cuts):
    splitter = LineSplitter(LIMIT)
    stream = b"".join(line + b"\n" for line in lines)
    assert feed(splitter, chunked(stream, cuts)) == [line.strip() for line in lines if line.strip()]


@given(size=st.integers(LIMIT - 2, LIMIT + 2), step=st.integers(1, 700))
def test_the_limit_is_exact_in_any_chunking(size, step):
    splitter = LineSplitter(LIMIT)
    line = b"x" * size + b"\n"
    chunks = [line[at : at + step] for at in range(0, len(line), step)]
    if size <= LIMIT:
        assert feed(splitter, chunks) == [b"x" * size]
    else:
        with pytest.raises(RpcError) as refused:
            feed(splitter, chunks)
        assert (refused.value.number, refused.value.code) == (rpc.INVALID_REQUEST, "request.too_large")


def test_an_endless_line_is_held_in_bounded_memory():
    splitter = LineSplitter(LIMIT)
    for _ in range(LIMIT // 1_000):
        assert splitter.feed(b"x" * 1_000) == []
        assert sys.getsizeof(splitter._rest) <= 2 * LIMIT
    for _ in range(1_000):
        with pytest.raises(RpcError):
            splitter.feed(b"x" * LIMIT + b"x")
        assert sys.getsizeof(splitter._rest) <= 2 * LIMIT


@given(st.binary(max_size=300))
@example(b"[" * 300)
@example(b'{"params":' + b"[" * 290)
@example(b'{"jsonrpc":"2.0","id":1,"method":"\xff"}')
@example(b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}')
def test_any_bytes_are_a_request_or_a_coded_refusal(line):
    found: Request | RpcError
    try:
        found = parse(line)
    except RpcError as error:
        found = error
    if isinstance(found, RpcError):
        assert found.code.startswith("request.")
        assert found.number in {rpc.PARSE_ERROR, rpc.INVALID_REQUEST}
    else:
        assert line.lstrip().startswith(b"{")


def test_json_nested_beyond_the_stack_is_refused():
    for line in (b"[" * 60_000, b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b"[" * 60_000):
        with pytest.raises(RpcError):
            parse(line)


@pytest.mark.parametrize(
    ("line", "number", "code", "request_id"),
    [
        (b"{", rpc.PARSE_ERROR, "request.not_json", None),
        (b"hello", rpc.PARSE_ERROR, "request.not_json", None),
        (b"\xff\xfe", rpc.PARSE_ERROR, "request.not_json", None),
        (b"7", rpc.INVALID_REQUEST, "request.invalid", None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"a"}]', rpc.INVALID_REQUEST, "request.batch", None),
        (b"[]", rpc.INVALID_REQUEST, "request.batch", None),
        (b'{"jsonrpc":"2.0","method":"a"}', rpc.INVALID_REQUEST, "request.invalid", None),
        (b'{"jsonrpc":"2.0","id":null,"method":"a"}', rpc.INVALID_REQUEST, "request.invalid", None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"a"}', rpc.INVALID_REQUEST, "request.invalid", None),
        (b'{"jsonrpc":"1.0","id":4,"method":"a"}', rpc.INVALID_REQUEST, "request.invalid", 4),
        (b'{"jsonrpc":"2.0","id":5}', rpc.INVALID_REQUEST, "request.invalid", 5),
        (b'{"jsonrpc":"2.0","id":"six","method":7}', rpc.INVALID_REQUEST, "request.invalid", "six"),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","extra":1}', rpc.INVALID_REQUEST, "request.invalid", 7),
        (b'{"jsonrpc":"2.0","id":"' + b"x" * 200 + b'","method":"a"}', rpc.INVALID_REQUEST, "request.invalid", None),
    ],
)
def test_refusals_say_what_is_wrong_and_whose_request_it_was(line, number, code, request_id):
    with pytest.raises(RpcError) as refused:
        parse(line)
    error = refused.value
    assert (error.number, error.code, error.request_id) == (number, code, request_id)
    written = json.loads(rpc.encode_error(error.request_id, error))
    assert written["error"]["data"] == {"code": code, "retry": False, "advice": error.advice}
    assert written["id"] == request_id


@given(st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=40)), st.text(max_size=40))
def test_a_request_is_read_as_it_was_written(request_id, method):
    line = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": {"a": [1, "二"]}})
    request = parse(line)
    assert (request.id, request.method) == (request_id, method)
    assert json.loads(bytes(request.params)) == {"a": [1, "二"]}


def test_what_is_written_is_one_line_each():
    assert rpc.encode_result(1, Nothing()) == b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
    assert rpc.encode_notification("a.b", Nothing()) == b'{"jsonrpc":"2.0","method":"a.b","params":{}}\n'
