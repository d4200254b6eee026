"""Recording and playing back: masked before it is kept (T20, T21), and every driver served by its own recording."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.capture import (
    MASKS,
    CaptureError,
    Entry,
    Header,
    Replay,
    encode_entry,
    encode_header,
    load,
    make_mask,
)
from devices.cardreader import protocol as cardreader
from devices.cardreader.tracks import luhn_valid, split_track2
from devices.fingerprint import protocol as fingerprint
from devices.idcard import protocol as idcard
from devices.pinpad import commands
from devices.pinpad import protocol as pinpad
from devices.printer import job as printing
from runtime.drivers import KINDS
from runtime.probe import StepResult, probe
from runtime.probe_steps import capture_steps
from sim import virtual_time
from sim.devices.bankcard import NUMBER
from tests.runtime.tester_rig import CITIZEN, PHOTO, memory_bench


def join(pieces: list[Any]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def record(kind: str) -> tuple[Header, list[Entry], list[StepResult]]:
    """Record a whole probe of a kind's virtual device, with a hand that does what it is asked."""
    lines: list[bytes] = []

    async def story() -> list[StepResult]:
        bench = memory_bench(kind, hand=True)
        bench.listener = lambda seconds, way, piece: lines.append(encode_entry(seconds, way, piece))
        return (await probe(bench, capture_steps(kind))).steps

    steps = virtual_time.run(story())
    return Header(1, kind, 9600), [Entry(**json.loads(line)) for line in lines], steps


@pytest.mark.parametrize("kind", KINDS)
def test_every_driver_is_served_by_its_recording(kind: str) -> None:
    """The whole probe again, hand and all, on nothing but the recording: no step goes another way."""
    header, entries, recorded = record(kind)
    assert {step.name: step.outcome for step in recorded if step.outcome == "failed"} == {}

    async def story() -> None:
        device = Replay(header, entries)
        bench = memory_bench(kind, device, hand=True)
        bench.tell = lambda _: None
        report = await probe(bench, capture_steps(kind))
        assert [(step.name, step.outcome) for step in report.steps] == [
            (step.name, step.outcome) for step in recorded
        ], report
        assert device.unknown == 0

    virtual_time.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_holds_nothing_personal(kind: str) -> None:
    """T20: the card's fields and photo, the finger, the card number, in every encoding a wire has."""
    _, entries, _ = record(kind)
    kept = {
        way: b"".join(bytes.fromhex(entry.hex) for entry in entries if entry.way == way)
        for way in ("to_host", "to_device")
    }
    fields = [field for field in astuple(CITIZEN) if len(field) > 2 and field != "长期"]
    secrets = [field.encode(code) for field in fields for code in ("utf-16-le", "utf-8", "gb18030")]
    secrets += [PHOTO[:32], NUMBER.encode(), bytes.fromhex(NUMBER), NUMBER[3:15].encode()]
    for data in kept.values():
        assert [secret for secret in secrets if secret in data] == []


def test_a_card_becomes_nobodys_card_of_the_same_length() -> None:
    mask = make_mask("idcard")
    mask.to_device(idcard.encode_request(idcard.Command.READ))
    frame = idcard.encode_reply(idcard.Status.OK, idcard.join_card(bytes(range(256)), PHOTO, bytes(512)))
    kept = join(mask.to_host(frame))
    assert len(kept) == len(frame)
    (body,) = idcard.FrameDecoder(shortest=idcard.SHORTEST_REPLY).feed(kept)
    assert isinstance(body, bytearray)
    blocks = idcard.split_card(body[3:])
    assert "样本".encode("utf-16-le") in blocks.text
    assert not any(blocks.photo)


def test_only_the_security_modules_number_is_kept_of_a_readers_data() -> None:
    mask = make_mask("idcard")
    number = idcard.encode_reply(idcard.Status.OK, b"0123456789abcdef")
    mask.to_device(idcard.encode_request(idcard.Command.SAM_ID))
    assert join(mask.to_host(number)) == number
    mask.to_device(idcard.encode_request(idcard.Command.SELECT))
    kept = join(mask.to_host(number + idcard.encode_reply(idcard.Status.OK, b"12345678")))
    assert b"0123" not in kept
    assert kept.endswith(idcard.encode_reply(idcard.Status.OK, bytes(8)))


def test_features_pictures_and_passwords_are_replaced() -> None:
    mask = make_mask("fingerprint")
    finger = b"\xa5" * 128
    kept = join(mask.to_host(fingerprint.encode_data(finger * 2, 128)))
    (first, last) = fingerprint.PacketDecoder().feed(kept)
    assert isinstance(first, fingerprint.Packet)
    assert isinstance(last, fingerprint.Packet)
    assert (first.pid, last.pid) == (fingerprint.Pid.DATA, fingerprint.Pid.LAST)
    assert first.payload == last.payload == bytes(range(128))
    password = fingerprint.encode_command(fingerprint.Command.VERIFY_PASSWORD, b"\1\2\3\4")
    zeros = fingerprint.encode_command(fingerprint.Command.VERIFY_PASSWORD, bytes(4))
    assert join(mask.to_device(password)) == zeros


@pytest.mark.parametrize("number", [NUMBER, "6222021234567890128"])
def test_tracks_become_those_of_nobodys_card(number: str) -> None:
    mask = make_mask("cardreader")
    track2 = f"{number}=30122200000000000"
    data = cardreader.join_tracks(0x37, [b"B6222^WANG/SAN^3012", track2.encode(), 0xE5])
    kept = join(mask.to_host(cardreader.encode_frame(0x45, 0x30, data)))
    (frame,) = cardreader.FrameDecoder().feed(kept)
    assert isinstance(frame, cardreader.Frame)
    read, faults = cardreader.split_tracks(frame.data)
    assert (set(read), set(faults)) == ({1, 2}, {3})
    assert not read[1].strip(b"0")
    assert len(read[2]) == len(track2)
    found = split_track2(read[2].decode())
    assert found is not None
    assert found[0] != number
    assert luhn_valid(found[0])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("70 0A 5A 08 62 22 02 12 34 56 78 94", "70 0A 5A 08 99 90 00 00 00 00 00 09"),
        ("70 08 5F 20 05 57 41 4E 47 20", "70 08 5F 20 05 00 00 00 00 00"),
        ("6F 07 84 05 A0 00 00 03 33", "6F 07 84 05 A0 00 00 03 33"),
        ("57 41 4E 47", "00 00 00 00"),
        ("", ""),
    ],
)
def test_chip_data_keep_their_shape_and_lose_their_values(said: str, expected: str) -> None:
    mask = make_mask("cardreader")
    body = bytes.fromhex(said)

    def frame(data: bytes) -> bytes:
        return cardreader.encode_frame(0x37, 0x31, b"Y" + (len(data) + 2).to_bytes(2, "big") + data + b"\x90\x00")

    kept = join(mask.to_host(frame(body)))
    if said.startswith("70 0A"):
        assert luhn_valid(kept[-12:-4].hex())
        assert kept[:12] == frame(body)[:12]
        assert bytes.fromhex("6222") not in kept
    else:
        assert kept == frame(bytes.fromhex(expected))


def test_a_pads_secrets_become_zeros() -> None:
    """T6: the card number, a wrapped key, a message and the PIN block, which also tells how long the PIN is."""
    mask = make_mask("pinpad")
    for request in (
        commands.get_pin_block("sm4", 0x30, "202123456789"),
        commands.load_sm4_key(1, 0x30, b"\xab" * 16),
        commands.get_mac("sm4", 0x31, bytes(16), b"\xcd" * 16),
    ):
        kept = join(mask.to_device(pinpad.encode(request.body)))
        (frame,) = pinpad.FrameDecoder(longest=999).feed(kept)
        assert isinstance(frame, pinpad.Frame)
        assert len(frame.body) == len(request.body)
        assert not frame.body[1:].strip(b"0")
    block = pinpad.encode(b"\x60" + b"0006" + b"A" * 32)
    assert join(mask.to_host(block)) == pinpad.encode(b"\x60" + b"0" * 36)
    mask.to_device(pinpad.encode(commands.IDENTIFY.body))
    assert join(mask.to_host(block)) == pinpad.encode(b"\x60" + b"0" * 36), "a late one"


def test_a_digit_in_clear_is_not_kept() -> None:
    mask = make_mask("pinpad")
    assert join(mask.to_host(b"*7*8\x0d\xff")) == b"*0*0\x0d\x00"


def test_what_is_printed_is_not_kept() -> None:
    mask = make_mask("printer")
    job = [
        printing.Text("王小明 110101199003074514"),
        printing.Qr("https://example.org/110101199003074514"),
        printing.Picture(16, 2, b"\xaa\x55\xaa\x55"),
    ]
    sent = b"".join(printing.chunks(job))
    kept = join(mask.to_device(sent))
    assert len(kept) == len(sent)
    for secret in ("王小明".encode("gbk"), b"110101", b"example", b"\xaa\x55"):
        assert secret not in kept
    assert "样".encode("gbk") * 3 in kept


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
@settings(max_examples=100)
def test_any_bytes_in_any_chunks_give_no_more_bytes_than_came(kind: str, data: st.DataObject) -> None:
    mask = make_mask(kind)
    chunks = data.draw(st.lists(st.binary(max_size=60), max_size=12))
    for cut in (mask.to_device, mask.to_host):
        assert len(join([piece for chunk in chunks for piece in cut(chunk)])) <= sum(map(len, chunks))


@pytest.mark.parametrize("kind", ["idcard", "fingerprint", "cardreader"])
@given(noise=st.binary(max_size=80))
@settings(max_examples=100)
def test_noise_of_a_personal_kind_is_kept_as_zeros(kind: str, noise: bytes) -> None:
    """Half a frame, or a damaged one, may be somebody's card: only its length is kept."""
    signals = {bytes([signal]) for signal in cardreader.Signal}
    for piece in make_mask(kind).to_host(noise):
        assert not any(piece.data) or piece.data in signals


def test_chunks_make_no_difference() -> None:
    frames = [idcard.encode_request(idcard.Command.STATUS), b"\x00\xaa", idcard.encode_request(idcard.Command.READ)]
    whole, single = make_mask("idcard"), make_mask("idcard")
    data = b"".join(frames)
    assert join(whole.to_device(data)) == join(
        [p for at in range(len(data)) for p in single.to_device(data[at : at + 1])]
    )


HEADER = encode_header(Header(1, "ups", 2400))


def write(tmp_path: Path, *lines: bytes) -> Path:
    file = tmp_path / "wire.jsonl"
    file.write_bytes(b"".join(lines))
    return file


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    piece = make_mask("ups").to_host(b"(220\r")[0]
    header, entries = load(write(tmp_path, HEADER, encode_entry(0.25, "to_host", piece)))
    assert (header.kind, header.baud) == ("ups", 2400)
    assert entries == [Entry(0.25, "to_host", b"(220\r".hex().upper())]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "wire.jsonl:1"),
        ([b"{}\n"], "wire.jsonl:1: .*govterm_capture"),
        ([encode_header(Header(1, "fridge", 1))], "no kind fridge"),
        ([HEADER, b'{"seconds": 1, "way": "to_host", "hex": "0"}\n'], "wire.jsonl:2"),
        ([HEADER, b'{"seconds": -1, "way": "to_host", "hex": "00"}\n'], "wire.jsonl:2"),
        ([HEADER, b"\xff\n"], "wire.jsonl:2"),
    ],
)
def test_a_bad_recording_is_told_with_its_line(tmp_path: Path, lines: list[bytes], said: str) -> None:
    with pytest.raises(CaptureError, match=said):
        load(write(tmp_path, *lines))


def test_a_missing_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        load(tmp_path / "none")


def test_a_replay_answers_in_the_order_of_the_recording_and_begins_anew() -> None:
    def entry(way: Any, text: bytes) -> Entry:
        return Entry(0, way, text.hex().upper())

    entries = [entry("to_host", b"boot")]
    for answer in (b"one\r", b"two\r"):
        entries += [entry("to_device", b"Q1\r"), entry("to_host", answer[:2]), entry("to_host", answer[2:])]
    entries += [entry("to_device", b"T\r")]
    device = Replay(Header(1, "ups", 2400), entries)
    assert device.verbs == {}
    assert [device.feed(b"Q1\r") for _ in range(3)] == [b"one\r", b"two\r", b"one\r"]
    assert device.feed(b"T\r") == b""
    assert device.unknown == 0
    assert device.feed(b"X\rQ1") == b""
    assert device.unknown == 1


def test_every_kind_has_a_mask() -> None:
    assert set(MASKS) == set(KINDS)
