"""The SAM-V codec against the frames of its document, and against every damage a wire can do (T1)."""

from functools import reduce
from itertools import pairwise
from operator import xor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.driver import Damage
from devices.idcard.protocol import (
    LONGEST,
    PREAMBLE,
    SHORTEST_REPLY,
    SHORTEST_REQUEST,
    BadChecksum,
    BadLength,
    Command,
    FrameDecoder,
    Reply,
    ReplyDecoder,
    Status,
    answers,
    decode_reply,
    encode_frame,
    encode_reply,
    encode_request,
    format_sam_id,
    join_card,
    split_card,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "idcard_frames.txt"
GOLDEN = {
    (group, meaning): bytes.fromhex(frame)
    for group, meaning, frame in (
        line.split(" | ") for line in VECTORS.read_text().splitlines() if not line.startswith("#")
    )
}
BODIES = st.binary(min_size=SHORTEST_REPLY - 1, max_size=200)


def bodies(found: list[bytearray | Damage]) -> list[bytes]:
    return [bytes(item) for item in found if isinstance(item, bytearray)]


def feed_in_chunks(decoder: FrameDecoder, data: bytes, cuts: list[int]) -> list[bytearray | Damage]:
    found: list[bytearray | Damage] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        found += decoder.feed(data[start:end])
    return found


def test_the_vectors_are_all_there() -> None:
    counts = [sum(group == name for group, _ in GOLDEN) for name in ("requests", "replies", "data_replies")]
    assert counts == [14, 16, 6]


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=[f"{group}: {meaning}" for group, meaning in GOLDEN])
def test_golden_frames_decode_and_encode(golden: bytes) -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REQUEST)
    (body,) = bodies(decoder.feed(golden))
    assert body == golden[len(PREAMBLE) + 2 : -1]
    assert encode_frame(body) == golden
    assert decoder.pending == 0


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        (Command.RESET, "reset SAM 10 FF"),
        (Command.STATUS, "SAM status 11 FF"),
        (Command.SAM_ID, "read SAM id 12 FF"),
        (Command.FIND, "find card 20 01"),
        (Command.SELECT, "select card 20 02"),
        (Command.READ, "read text+photo 30 01"),
        (Command.ADDRESS, "read newest address 30 03"),
        (Command.MANAGEMENT, "read mgmt IIN/SN/DN 30 05"),
        (Command.READ_FINGERS, "read text+photo+FP 30 10"),
    ],
)
def test_requests_of_the_driver(command: Command, meaning: str) -> None:
    assert encode_request(command) == GOLDEN["requests", meaning]


@pytest.mark.parametrize(
    ("status", "data", "meaning"),
    [
        (Status.OK, b"", "generic OK, SW 00 00 90"),
        (Status.FOUND, bytes(4), "find OK, SW 00 00 9F + 4-byte IIN"),
        (Status.OK, bytes(8), "select OK, SW 00 00 90 + 8-byte SN"),
        (Status.NO_CARD, b"", "no card found (find) 80"),
        (Status.SELECT_FAILED, b"", "select failed 81"),
        (Status.READ_FAILED, b"", "read failed 41"),
        (Status.NO_CONTENT, b"", "no such content (e.g. no additional address) 91"),
        (Status.BAD_CHECKSUM, b"", "request checksum error 10"),
        (Status.BAD_LENGTH, b"", "request length error 11"),
        (Status.BAD_COMMAND, b"", "request command error 21"),
        (Status.NO_PRIVILEGE, b"", "no privilege 23"),
        (Status.UNKNOWN_ERROR, b"", "unknown error 24"),
        (Status.SAM_NOT_ACCEPTED, b"", "card->SAM authentication failed 33"),
        (Status.SELF_TEST_FAILED, b"", "SAM self-test failed 60"),
        (Status.SAM_NOT_AUTHORISED, b"", "SAM not authorised 66"),
    ],
)
def test_replies_of_the_rig_and_their_reading(status: Status, data: bytes, meaning: str) -> None:
    golden = GOLDEN["replies", meaning]
    assert encode_reply(status, data) == golden
    (body,) = FrameDecoder(shortest=SHORTEST_REPLY).feed(golden)
    assert isinstance(body, bytearray)
    assert decode_reply(body) == Reply(status, bytearray(data))
    assert not any(body), "the decoded body is overwritten"


def test_sam_id_reads_as_it_is_printed() -> None:
    golden = GOLDEN["replies", "SAM id 05.01-20160101-0001234567-0987654321"]
    assert format_sam_id(bytearray(golden[10:-1])) == "05.01-20160101-0001234567-0987654321"


FINGERS = [bytes.fromhex("43 01 12 01 01") + bytes([position]) + bytes(506) for position in (11, 16)]


@pytest.mark.parametrize(
    ("meaning", "size", "check", "fingers"),
    [
        ("base (30 01)", 1295, 0x74, None),
        ("base and two fingerprints (30 10)", 2321, 0x65, FINGERS[0] + FINGERS[1]),
        ("base and one fingerprint (30 10)", 1809, 0x2D, FINGERS[0]),
        ("base and no fingerprint (30 10)", 1297, 0x76, b""),
    ],
)
def test_a_card_splits_by_its_size_words(meaning: str, size: int, check: int, fingers: bytes | None) -> None:
    """T1: sizes and checks of protocols 1.5."""
    golden = GOLDEN["data_replies", meaning]
    assert (len(golden), golden[-1]) == (size, check)
    blocks = split_card(bytearray(golden[10:-1]))
    assert blocks.text[:8] == bytes.fromhex("4B 6D D5 8B 28 75 37 62")
    assert blocks.photo == bytes.fromhex("57 4C 66 00") + bytes(1020)
    assert blocks.fingers == fingers
    assert encode_reply(Status.OK, join_card(bytes(blocks.text), bytes(blocks.photo), fingers)) == golden
    blocks.wipe()
    assert not any(map(any, filter(None, blocks)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        bytes.fromhex("0100 0400"),
        bytes.fromhex("0100 0400") + bytes(1279),
        bytes.fromhex("0100 0400 0200") + bytes(1279),
        bytes.fromhex("0100 0400 0400") + bytes(1280),
        bytes.fromhex("FFFF FFFF FFFF") + bytes(1280),
    ],
)
def test_wrong_size_words_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        split_card(bytearray(data))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=900), min_size=2, max_size=3))
def test_any_blocks_are_split_as_they_were_joined(blocks: list[bytes]) -> None:
    found = split_card(bytearray(join_card(*blocks)))
    assert [bytes(block) for block in found if block is not None] == blocks


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_data_is_a_card_or_a_value_error(data: bytes) -> None:
    try:
        blocks = split_card(bytearray(data))
    except ValueError:
        return
    assert b"".join(filter(None, blocks)) == data[4 if blocks.fingers is None else 6 :]


def test_replies_are_told_apart_by_shape() -> None:
    shapes = {
        Command.RESET: [Reply(Status.OK)],
        Command.STATUS: [Reply(Status.OK)],
        Command.SAM_ID: [Reply(Status.OK, bytearray(16))],
        Command.FIND: [Reply(Status.FOUND, bytearray(4)), Reply(Status.NO_CARD)],
        Command.SELECT: [Reply(Status.OK, bytearray(8)), Reply(Status.SELECT_FAILED)],
        Command.READ: [Reply(Status.OK, bytearray(1284)), Reply(Status.READ_FAILED)],
        Command.ADDRESS: [Reply(Status.OK, bytearray(70 * count)) for count in (1, 2, 3, 4)]
        + [Reply(Status.NO_CONTENT), Reply(Status.READ_FAILED)],
        Command.MANAGEMENT: [Reply(Status.OK, bytearray(28)), Reply(Status.NO_CONTENT)],
        Command.READ_FINGERS: [Reply(Status.OK, bytearray(size)) for size in (1286, 1798, 2310)],
    }
    for command, right in shapes.items():
        assert all(answers(command, reply) for reply in right)
        assert answers(command, Reply(Status.SAM_NOT_AUTHORISED))
    for late in shapes[Command.READ] + shapes[Command.FIND] + shapes[Command.SAM_ID] + shapes[Command.ADDRESS]:
        assert not answers(Command.STATUS, late)
        assert not answers(Command.SELECT, late)
    for late in shapes[Command.SELECT] + shapes[Command.FIND] + shapes[Command.MANAGEMENT]:
        assert not answers(Command.READ, late)
        assert not answers(Command.ADDRESS, late) or late.status == Status.NO_CONTENT


def test_a_reply_prints_nothing_of_its_data() -> None:
    reply = Reply(Status.OK, bytearray(b"personal"))
    assert "personal" not in repr(reply)
    reply.wipe()
    assert reply.data == b""


@settings(max_examples=100, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=4), st.lists(st.integers(0, 1000), max_size=12))
def test_any_chunking_gives_the_same_frames(sent: list[bytes], cuts: list[int]) -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    found = feed_in_chunks(decoder, b"".join(map(encode_frame, sent)), cuts)
    assert bodies(found) == sent
    assert len(found) == len(sent)
    assert decoder.pending == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), BODIES)
def test_a_frame_is_found_behind_garbage(garbage: bytes, body: bytes) -> None:
    """Garbage that itself looks like a frame's start may swallow one frame; LONGEST bytes later all is found."""
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    frame = encode_frame(body)
    found = bodies(decoder.feed(garbage + frame * (1 + (LONGEST + 7) // len(frame) + 1)))
    assert found[-1] == body
    if PREAMBLE not in garbage + PREAMBLE[:-1]:
        assert found[0] == body


def test_a_frame_is_found_behind_the_documents_noise() -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    golden = GOLDEN["replies", "no card found (find) 80"]
    assert bodies(decoder.feed(bytes.fromhex("00 FF AA AA AA 96") + golden)) == [bytes.fromhex("00 00 80")]


@settings(max_examples=200, deadline=None)
@given(BODIES, st.data())
def test_one_flipped_bit_is_never_taken_for_the_frame(body: bytes, data: st.DataObject) -> None:
    """A flip of LEN may by chance leave another frame with a good XOR; every other flip leaves none."""
    frame = bytearray(encode_frame(body))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    found = FrameDecoder(shortest=SHORTEST_REPLY).feed(bytes(frame))
    assert body not in bodies(found)
    if bit // 8 not in (5, 6) and PREAMBLE not in body:
        assert not bodies(found)


@pytest.mark.parametrize("size", range(1, 1295, 37))
def test_a_truncated_frame_gives_nothing_and_reset_forgets_it(size: int) -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    assert decoder.feed(GOLDEN["data_replies", "base (30 01)"][:size]) == []
    decoder.reset()
    assert decoder.pending == 0
    assert bodies(decoder.feed(GOLDEN["replies", "read failed 41"])) == [bytes.fromhex("00 00 41")]


def test_a_truncated_frame_gives_way_to_the_next_ones() -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    short = GOLDEN["replies", "read failed 41"]
    decoder.feed(GOLDEN["data_replies", "base (30 01)"][:700])
    found = decoder.feed(short * 100)
    assert any(isinstance(item, BadChecksum) for item in found)
    assert bodies(found) == [bytes.fromhex("00 00 41")] * 100


@pytest.mark.parametrize("length", [0, SHORTEST_REPLY - 1, LONGEST + 1, 0xFFFF])
def test_a_length_out_of_bounds_is_damage(length: int) -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    (damage,) = decoder.feed(PREAMBLE + length.to_bytes(2, "big"))
    assert isinstance(damage, BadLength)
    assert decoder.pending < len(PREAMBLE)


def test_the_longest_frame_is_taken() -> None:
    body = bytes(LONGEST - 1)
    assert bodies(FrameDecoder(shortest=SHORTEST_REPLY).feed(encode_frame(body))) == [body]


def test_preambles_inside_a_frame_do_not_restart_the_hunt() -> None:
    body = bytes(3) + PREAMBLE * 5 + GOLDEN["replies", "read failed 41"]
    assert bodies(FrameDecoder(shortest=SHORTEST_REPLY).feed(encode_frame(body))) == [body]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=3000), st.just(PREAMBLE * 300)), max_size=8))
def test_memory_is_bounded_and_no_bytes_are_too_many(chunks: list[bytes]) -> None:
    decoder = FrameDecoder(shortest=SHORTEST_REPLY)
    for chunk in chunks:
        decoder.feed(chunk)
        assert decoder.pending <= LONGEST + 6


def test_the_checksum_is_the_documents() -> None:
    for golden in GOLDEN.values():
        assert reduce(xor, golden[len(PREAMBLE) :]) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=4), st.lists(st.integers(0, 1000), max_size=12))
def test_replies_come_in_any_chunking(sent: list[bytes], cuts: list[int]) -> None:
    decoder = ReplyDecoder()
    data = b"".join(map(encode_frame, sent))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [item for start, end in pairwise(edges) for item in decoder.feed(data[start:end])]
    assert found == [Reply(body[2], bytearray(body[3:])) for body in sent]
    decoder.feed(data[:7])
    decoder.reset()
    assert decoder.feed(encode_reply(Status.OK)) == [Reply(Status.OK)]
