"""The ZFM/R30x codec against the packets of its document, and against every damage a wire can do (T3)."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.driver import Damage
from devices.fingerprint.finger import FingerImage, Template, TemplateFormat, expand_pixels
from devices.fingerprint.protocol import (
    DEFAULT_ADDRESS,
    IMAGE_BYTES,
    LONGEST_PAYLOAD,
    PACKET_OVERHEAD,
    SECURITY_LEVEL,
    START,
    Code,
    Command,
    Packet,
    PacketDecoder,
    Parameters,
    Pid,
    Upload,
    decode_parameters,
    encode_ack,
    encode_command,
    encode_data,
    encode_packet,
    encode_parameters,
    is_parameters,
    is_plain,
    is_score,
)
from devices.personal import PersonalBytes

VECTORS = Path(__file__).parents[1] / "vectors" / "fingerprint_frames.txt"
GOLDEN = {
    (group, meaning): bytes.fromhex(frame)
    for group, meaning, frame in (
        line.split(" | ") for line in VECTORS.read_text().splitlines() if not line.startswith("#")
    )
}
SENT = st.tuples(st.sampled_from(Pid), st.binary(min_size=1, max_size=LONGEST_PAYLOAD), st.integers(0, DEFAULT_ADDRESS))
PARAMETERS = Parameters(
    status=0, system=9, capacity=1000, security_level=3, address=DEFAULT_ADDRESS, packet_bytes=128, baud=57600
)


def packets(found: list[Packet | Damage]) -> list[Packet]:
    return [item for item in found if isinstance(item, Packet)]


def only(data: bytes) -> Packet:
    (packet,) = packets(PacketDecoder().feed(data))
    return packet


def test_the_vectors_are_all_there() -> None:
    assert [sum(group == name for group, _ in GOLDEN) for name in ("commands", "acks", "data")] == [20, 10, 2]


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=[f"{group}: {meaning}" for group, meaning in GOLDEN])
def test_golden_packets_decode_and_encode(golden: bytes) -> None:
    decoder = PacketDecoder()
    (packet,) = packets(decoder.feed(golden))
    assert decoder.pending == 0
    assert packet == Packet(golden[6], bytearray(golden[9:-2]), DEFAULT_ADDRESS)
    assert encode_packet(packet.pid, packet.payload) == golden


@pytest.mark.parametrize(
    ("command", "parameters", "meaning"),
    [
        (Command.VERIFY_PASSWORD, bytes(4), "VfyPwd 00000000"),
        (Command.GENERATE_IMAGE, b"", "GenImg"),
        (Command.IMAGE_TO_CHARACTERS, b"\x01", "Img2Tz buffer 1"),
        (Command.IMAGE_TO_CHARACTERS, b"\x02", "Img2Tz buffer 2"),
        (Command.MATCH, b"", "Match 1:1 (buf1 vs buf2)"),
        (Command.UPLOAD_CHARACTERS, b"\x01", "UpChar buf1 (module -> host)"),
        (Command.DOWNLOAD_CHARACTERS, b"\x01", "DownChar buf1 (host -> module)"),
        (Command.UPLOAD_IMAGE, b"", "UpImage (module -> host)"),
        (Command.SET_PARAMETER, b"\x04\x0c", "SetSysPara: param 4 (baud) = 12"),
        (Command.READ_PARAMETERS, b"", "ReadSysPara"),
        (Command.HANDSHAKE, b"", "Handshake (R503 family)"),
    ],
)
def test_commands_of_the_driver(command: Command, parameters: bytes, meaning: str) -> None:
    assert encode_command(command, parameters) == GOLDEN["commands", meaning]


@pytest.mark.parametrize(
    ("code", "data", "meaning"),
    [
        (Code.OK, b"", "OK"),
        (Code.NO_FINGER, b"", "no finger (GenImg)"),
        (Code.NO_MATCH, b"", "no match"),
        (Code.OK, b"\x00\x64", "match, score 0x0064"),
        (Code.WRONG_PASSWORD, b"", "wrong password"),
        (Code.PACKET_ERROR, b"", "packet receive error"),
        (Code.OK, encode_parameters(PARAMETERS), "ReadSysPara"),
    ],
)
def test_answers_of_the_rig(code: Code, data: bytes, meaning: str) -> None:
    assert encode_ack(code, data) == GOLDEN["acks", meaning]


def test_parameters_are_read() -> None:
    packet = only(GOLDEN["acks", "ReadSysPara"])
    assert is_parameters(packet)
    assert decode_parameters(packet) == PARAMETERS
    assert SECURITY_LEVEL == 5


@pytest.mark.parametrize(("size_code", "packet_bytes"), [(0, 32), (1, 64), (2, 128), (3, 256)])
def test_packet_sizes_have_codes(size_code: int, packet_bytes: int) -> None:
    payload = bytearray(GOLDEN["acks", "ReadSysPara"][9:-2])
    payload[14] = size_code
    assert decode_parameters(Packet(Pid.ACK, payload)).packet_bytes == packet_bytes
    payload[14] = 4
    assert not is_parameters(Packet(Pid.ACK, payload)), "a size that the protocol does not have"


def test_answers_are_told_apart_by_shape() -> None:
    plain, refused, score, parameters = (
        only(GOLDEN["acks", meaning]) for meaning in ("OK", "no match", "match, score 0x0064", "ReadSysPara")
    )
    assert [is_plain(each) for each in (plain, refused, score, parameters)] == [True, True, False, False]
    assert [is_score(each) for each in (plain, refused, score, parameters)] == [False, True, True, False]
    assert [is_parameters(each) for each in (plain, refused, score, parameters)] == [False, False, False, True]
    assert not is_plain(only(GOLDEN["commands", "GenImg"])), "an echo of our own command is no answer"


@pytest.mark.parametrize("case", ["data | 128 zero bytes", "data | 128 zero bytes, last"])
def test_data_are_cut_into_golden_packets(case: str) -> None:
    group, meaning = case.split(" | ")
    size = 128 if "last" in meaning else 129
    assert encode_data(bytes(size), 128).startswith(GOLDEN[group, meaning])


def test_an_image_is_as_long_on_the_wire_as_the_document_says() -> None:
    """protocols 2.1: 288 packets of 128 bytes, 40,032 bytes."""
    wire = encode_data(bytes(IMAGE_BYTES), 128)
    assert len(wire) == 40_032
    assert len(packets(PacketDecoder().feed(wire))) == 288


def feed_upload(upload: Upload, wire: bytes) -> list[bool]:
    return [upload.take(packet) for packet in packets(PacketDecoder().feed(wire))]


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=600), st.sampled_from((32, 64, 128, 256)))
def test_uploads_arrive_whole(data: bytes, packet_bytes: int) -> None:
    upload = Upload(limit=600)
    ends = feed_upload(upload, encode_ack(Code.OK) + encode_data(data, packet_bytes))
    assert upload.data == data
    assert ends == [False] * (len(ends) - 1) + [True]
    upload.wipe()
    assert not any(upload.data)


def test_an_upload_ends_with_a_refusal_or_with_too_much() -> None:
    assert feed_upload(Upload(limit=10), encode_ack(Code.UPLOAD_FAILED)) == [True]
    assert feed_upload(Upload(limit=100), encode_ack(Code.OK) + encode_packet(Pid.DATA, bytes(64)) * 2) == [
        False,
        False,
        True,
    ]
    assert feed_upload(Upload(limit=100), encode_data(bytes(64), 32)) == [False, False], "data of an earlier upload"


def test_packets_print_nothing_of_their_payload() -> None:
    """T20."""
    packet = Packet(Pid.DATA, bytearray(b"ridges"))
    assert "ridges" not in repr(packet)
    packet.wipe()
    assert not any(packet.payload)


def test_templates_are_tagged_and_print_masked() -> None:
    """T20, protocols 2.5: equal sizes, different formats."""
    features = PersonalBytes(b"ridges".ljust(512, b"\0"))
    template = Template(TemplateFormat.GAT_1012, features)
    assert template != Template(TemplateFormat.ZFM_512, features)
    assert "ridges" not in repr(template)
    with pytest.raises(ValueError, match="512 bytes, not 256"):
        Template(TemplateFormat.ZFM_512, PersonalBytes(bytes(256)))
    template.wipe()
    assert features.wiped


def test_pixels_are_expanded_high_nibble_left() -> None:
    packed = bytearray(IMAGE_BYTES)
    packed[:2] = b"\x0f\xa1"
    image = FingerImage(expand_pixels(packed))
    assert bytes(image.pixels.view()[:5]) == bytes((0x00, 0xFF, 0xAA, 0x11, 0x00))
    assert len(image.pixels) == image.width * image.height == 256 * 288
    assert (image.depth, image.fap) == (4, None), "T3: the picture meets no FAP level, and says so"
    with pytest.raises(ValueError, match="36864"):
        expand_pixels(bytearray(IMAGE_BYTES - 1))
    image.wipe()
    assert image.pixels.wiped


@settings(max_examples=100, deadline=None)
@given(st.lists(SENT, min_size=1, max_size=4), st.lists(st.integers(0, 1100), max_size=12))
def test_any_chunking_gives_the_same_packets(sent: list[tuple[int, bytes, int]], cuts: list[int]) -> None:
    wire = b"".join(encode_packet(*each) for each in sent)
    decoder = PacketDecoder()
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    found = [item for start, end in pairwise(edges) for item in decoder.feed(wire[start:end])]
    assert found == [Packet(pid, bytearray(payload), address) for pid, payload, address in sent]
    assert decoder.pending == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), SENT)
def test_a_packet_is_found_behind_garbage(garbage: bytes, sent: tuple[int, bytes, int]) -> None:
    """Garbage that itself looks like a packet's start may swallow some; the longest packet later all is found."""
    wire = encode_packet(*sent)
    longest = LONGEST_PAYLOAD + PACKET_OVERHEAD
    found = packets(PacketDecoder().feed(garbage + wire * (2 + longest // len(wire))))
    assert found[-1].payload == sent[1]
    if START not in garbage + START[:1]:
        assert found[0].payload == sent[1]


def test_a_packet_is_found_behind_the_ready_byte_and_noise() -> None:
    """protocols 2.1: R503 parts say 55 when they have power."""
    golden = GOLDEN["acks", "OK"]
    assert PacketDecoder().feed(b"\x55\x00\xff\xaa\xef" + golden) == [only(golden)]


@settings(max_examples=200, deadline=None)
@given(SENT, st.data())
def test_one_flipped_bit_is_never_taken_for_the_packet(sent: tuple[int, bytes, int], data: st.DataObject) -> None:
    """The sum does not see the address: a flip there gives a packet of another module, which is not ours."""
    wire = bytearray(encode_packet(*sent))
    bit = data.draw(st.integers(0, len(wire) * 8 - 1))
    wire[bit // 8] ^= 1 << bit % 8
    found = packets(PacketDecoder().feed(bytes(wire)))
    assert (sent[1], sent[2]) not in [(bytes(each.payload), each.address) for each in found]
    if not 2 <= bit // 8 < 6 and START not in wire[2:] + b"\xef":
        assert found == []


@pytest.mark.parametrize("size", range(1, 139, 11))
def test_a_truncated_packet_gives_nothing_and_reset_forgets_it(size: int) -> None:
    decoder = PacketDecoder()
    assert decoder.feed(GOLDEN["data", "128 zero bytes"][:size]) == []
    decoder.reset()
    assert decoder.pending == 0
    assert decoder.feed(GOLDEN["acks", "OK"]) == [only(GOLDEN["acks", "OK"])]


def test_a_truncated_packet_gives_way_to_the_next_ones() -> None:
    decoder = PacketDecoder()
    decoder.feed(GOLDEN["data", "128 zero bytes"][:70])
    found = decoder.feed(GOLDEN["acks", "OK"] * 20)
    assert any(isinstance(item, Damage) for item in found)
    assert len(packets(found)) == 20


@pytest.mark.parametrize("head", ["02 00 02", "02 01 03", "02 FF FF", "03 00 03", "00 00 03"])
def test_a_head_out_of_bounds_is_damage(head: str) -> None:
    decoder = PacketDecoder()
    (damage,) = decoder.feed(START + bytes(4) + bytes.fromhex(head))
    assert isinstance(damage, Damage)
    assert decoder.pending <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=3000), st.just(START * 700)), max_size=8))
def test_memory_is_bounded_and_no_bytes_are_too_many(chunks: list[bytes]) -> None:
    decoder = PacketDecoder()
    for chunk in chunks:
        decoder.feed(chunk)
        assert decoder.pending < LONGEST_PAYLOAD + PACKET_OVERHEAD
