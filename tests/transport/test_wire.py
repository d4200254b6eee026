"""The messages against the document, against msgpack (another codec), and against garbage (H12)."""

import re
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import wire
from transport.errors import TransportError
from transport.grants import KeyRequest

DOCUMENT = (Path(__file__).parents[2] / "docs/wire-format.md").read_text(encoding="utf-8")
VECTORS = {
    name: bytes.fromhex(value)
    for block in re.findall(r"```vector\n(.*?)```", DOCUMENT, re.DOTALL)
    for name, value in re.findall(r"(\w+) *= ([0-9a-f]+)", block)
}
POINT = bytes.fromhex(
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
KINDS = (wire.Call, wire.Answer, wire.RecordMessage, wire.Receipt, wire.Presence, KeyRequest)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plaintext", wire.Call(bytes(range(16)), "certificate.request", 1, bytes.fromhex("81a16101"))),
        ("receipt", wire.Receipt("supervision", 7)),
        ("record", wire.RecordMessage("supervision", 7, "supervision.event", 1, b"\x80")),
        ("presence", wire.Presence(online=True, boot_id="b7", software_version="0.1.0")),
        ("request", KeyRequest(1, "GT-0001", "b7", 1_800_000_000, bytes(range(16, 32)), POINT)),
    ],
)
def test_the_documents_vectors(name, message):
    assert wire.encode(message) == VECTORS[name]
    assert wire.decode(VECTORS[name], type(message)) == message


def test_the_document_names_each_topic_and_the_topics_form():
    assert wire.topic("GT-0001", "up", "call") == "govterm/v1/GT-0001/up/call"
    for stream in ("presence", "grant", "call", "answer", "record", "receipt"):
        assert f"| `{stream}` |" in DOCUMENT


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
    try:
        message = wire.decode(garbage, kind)
    except TransportError as error:
        assert error.code == "envelope.malformed"  # noqa: PT017 (both ways are right)
    else:
        assert msgpack.unpackb(garbage) == msgpack.unpackb(wire.encode(message))


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
    "body",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x92" + b"\x81" * 50_000,
        b"\x92\xa1\xff\x01",
        b"\x92\xdb\xff\xff\xff\xffa",
        b"\x92\xa1s\x00",
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
        "sequence 0",
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
