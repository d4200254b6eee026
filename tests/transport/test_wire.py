"""The messages against the document, against msgpack (another codec), and against garbage (H12)."""

import re

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.wire_document import CALL, DOCUMENT, GRANT, MESSAGES, REQUEST, SEALED, TERMINAL, Stated, opener
from transport import envelope, sm, wire
from transport.errors import TransportError
from transport.grants import KeyRequest
from transport.parts import PART_BYTES

KIND_OF = {
    "presence": wire.Presence,
    "taken": wire.Taken,
    "call": wire.Call,
    "answer": wire.Answer,
    "record": wire.Records,
    "receipt": wire.Receipt,
    "part": wire.Part,
    "part_receipt": wire.PartReceipt,
    "command": wire.Command,
}
KINDS = (*KIND_OF.values(), KeyRequest)


def _plain(message: msgspec.Struct) -> list:
    """Return a message as another codec reads it."""
    return msgpack.unpackb(msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,))))


def _plaintext(message: Stated) -> bytes:
    if not message.is_sealed:
        return message.payload
    fields = msgpack.unpackb(message.payload)
    place = envelope.additional_data(fields[2], TERMINAL, message.direction, message.stream)
    key = opener(message.direction)._key
    return key.unseal(fields[3], fields[4], place)


@pytest.mark.parametrize(
    "message", [one for one in MESSAGES if one.stream != "grant"], ids=lambda one: one.topic.split("/", 3)[3]
)
def test_the_documents_messages(message):
    """Each stated message opens, reads as what is stated of it, and is what this program writes."""
    plaintext = _plaintext(message)
    kind = KIND_OF[message.stream]
    assert msgpack.unpackb(plaintext) == message.contents
    read = wire.decode(msgpack.packb(message.contents), kind)
    assert wire.decode(plaintext, kind) == read
    assert wire.encode(read) == plaintext


def test_the_document_states_each_kind_in_each_direction():
    stated = {(message.direction, message.stream) for message in MESSAGES}
    rows = re.findall(r"^\| (`up`|`down`|`up` and `down`|`down` and `up`) \| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    named = {
        (direction, stream) for which, stream in rows for direction in re.findall(r"\w+", which.replace("and", ""))
    }
    assert named == stated
    assert {stream for _, stream in named} == {*KIND_OF, "grant"}
    table = DOCUMENT.split("## Plaintexts")[1].split("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \| `\[", table, re.MULTILINE)) == {message.stream for message in SEALED}
    assert wire.topic("GT-0001", "up", "call") == "govterm/v1/GT-0001/up/call"


def test_the_documents_parts_are_the_ends_of_what_it_says():
    up, down = (message.contents for message in MESSAGES if message.stream == "part")
    for contents, schema in ((up, "scan.submit"), (down, "certificate.issue")):
        key, index, count, digest, body = contents
        whole = msgpack.packb([key, schema, 1, bytes(65_600)])
        assert (index, count, body, digest) == (1, 2, whole[PART_BYTES:], sm.sm3(whole))


def test_the_documents_call_step_by_step():
    """By msgpack and the bare cipher, without the code under test."""
    (call,) = [one for one in SEALED if one.payload == CALL["envelope"]]
    assert msgpack.packb(call.contents) == CALL["plaintext"]
    place = f"govterm/v1/{TERMINAL}/up/call"
    assert msgpack.packb(["govterm", 1, 1, CALL["key_id"], TERMINAL, "up", "call", place]) == CALL["additional"]
    assert sm.seal(CALL["key"], CALL["nonce"], CALL["plaintext"], CALL["additional"]) == CALL["sealed"]
    assert msgpack.packb([1, 1, CALL["key_id"], CALL["nonce"], CALL["sealed"]]) == CALL["envelope"]


def test_the_documents_request_reads():
    content, _ = msgpack.unpackb(REQUEST.payload)
    assert _plain(wire.decode(content, KeyRequest)) == REQUEST.contents
    assert len(GRANT.contents) == 8


@settings(max_examples=200, deadline=None)
@given(
    key=st.binary(min_size=16, max_size=16),
    schema=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
    version=st.integers(1, 65_535),
    body=st.binary(max_size=300),
)
def test_msgpack_reads_and_writes_the_same(key, schema, version, body):
    call = wire.Call(key, schema, version, body)
    assert msgpack.unpackb(wire.encode(call)) == [key, schema, version, body]
    assert wire.decode(msgpack.packb([key, schema, version, body]), wire.Call) == call


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(max_size=200), kind=st.sampled_from(KINDS))
def test_garbage_is_refused_or_means_what_it_says(garbage, kind):
    """Total: any bytes are a message or a TransportError, whatever the kind."""
    try:
        message = wire.decode(garbage, kind)
    except TransportError as error:
        assert error.code == "envelope.malformed"  # noqa: PT017 (both ways are right)
    else:
        assert msgpack.unpackb(garbage) == msgpack.unpackb(wire.encode(message))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), stated=st.sampled_from([one for one in MESSAGES if one.stream != "grant"]))
def test_a_spoilt_message_is_refused_or_means_what_it_says(data, stated):
    """Bytes near a message are where a decoder errs."""
    body = bytearray(_plaintext(stated))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(1, len(body))) :]
    try:
        message = wire.decode(bytes(body), KIND_OF[stated.stream])
    except TransportError as error:
        assert error.code == "envelope.malformed"  # noqa: PT017 (both ways are right)
    else:
        assert wire.decode(wire.encode(message), KIND_OF[stated.stream]) == message


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(value=_values, kind=st.sampled_from(KINDS))
def test_any_other_value_is_refused(value, kind):
    """Drawn values are hardly ever messages; those that are come out equal."""
    packed = msgpack.packb(value)
    try:
        message = wire.decode(packed, kind)
    except TransportError as error:
        assert error.code == "envelope.malformed"  # noqa: PT017 (both ways are right)
    else:
        assert msgpack.unpackb(wire.encode(message)) == value


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        (wire.Call, [bytes(15), "s", 1, b""]),
        (wire.Call, [bytes(17), "s", 1, b""]),
        (wire.Call, [bytes(16), "", 1, b""]),
        (wire.Call, [bytes(16), "s" * 65, 1, b""]),
        (wire.Call, [bytes(16), "s", 0, b""]),
        (wire.Call, [bytes(16), "s", 65_536, b""]),
        (wire.Call, [bytes(16), "s", 1, "text"]),
        (wire.Records, ["s", []]),
        (wire.Records, ["s", [[1, "s", 1, b""]] * 257]),
        (wire.Records, ["s", [[0, "s", 1, b""]]]),
        (wire.Records, ["s", [[2**63, "s", 1, b""]]]),
        (wire.Records, ["s", [[1, "s", 1, b"", 0]]]),
        (wire.Part, [bytes(16), -1, 1, bytes(32), b""]),
        (wire.Part, [bytes(16), 65_536, 65_536, bytes(32), b""]),
        (wire.Part, [bytes(16), 0, 0, bytes(32), b""]),
        (wire.Part, [bytes(16), 0, 65_537, bytes(32), b""]),
        (wire.Part, [bytes(16), 0, 1, bytes(31), b""]),
        (wire.PartReceipt, [bytes(16), bytes(32), 65_537]),
        (wire.Command, ["s", 0, 0, "s", 1, b""]),
        (wire.Command, ["s", 1, 2**53, "s", 1, b""]),
        (wire.Command, ["s", 1, -1, "s", 1, b""]),
        (wire.Taken, [{"s": 0}]),
        (wire.Taken, [{"": 1}]),
        (wire.Taken, [{f"s{number}": 1 for number in range(17)}]),
        (wire.Taken, [[["s", 1]]]),
        (wire.Receipt, ["s", -1]),
        (wire.Presence, [1, "b7", "0.1.0"]),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, list) else value.__name__,
)
def test_a_value_past_its_limit_is_refused(kind, contents):
    with pytest.raises(TransportError) as caught:
        wire.decode(msgpack.packb(contents), kind)
    assert caught.value.code == "envelope.malformed"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x92" + b"\x81" * 50_000,
        b"\x92\xa1\xff\x01",
        b"\x92\xdb\xff\xff\xff\xffa",
        b"\x92\xa1s\xff",
        b"\x92\xa1s\xcf\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\x92\xa0\x01",
        b"\x92\xa1s\xc3",
        b"\x92\xc4\x01s\x01",
        b"\x93\xa1s\x01\x01",
        b"\x91\xa1s",
        b"\x92\xa1s\x01\x01",
    ],
    ids=[
        "empty",
        "huge array",
        "nested arrays",
        "nested maps",
        "not UTF-8",
        "huge text",
        "sequence -1",
        "sequence 2^63",
        "no name",
        "bool for a number",
        "bytes for text",
        "an element more",
        "an element fewer",
        "bytes after the end",
    ],
)
def test_a_receipt_out_of_form_is_refused(body):
    with pytest.raises(TransportError) as caught:
        wire.decode(body, wire.Receipt)
    assert caught.value.code == "envelope.malformed"
