"""TLV, application selection and what a payment reads of a chip (T5, T10, protocols 5.3)."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.cardreader import emv, tlv
from devices.cardreader.chip import ChipProtocol, Response, announced_protocol, exchange_t0, parse_response
from devices.cardreader.emv import PPSE, PSE, UNIONPAY, Application
from devices.cardreader.tracks import luhn_valid, make_tracks, split_track2
from devices.errors import DeviceError
from sim import virtual_time
from sim.devices.bankcard import ATR, NUMBER, BankCard

PSE_FCI = bytes.fromhex(
    "6F 20 84 0E 31 50 41 59 2E 53 59 53 2E 44 44 46 30 31 A5 0E 88 01 02 5F 2D 04 6E 6F 65 6E 9F 11 01 01"
)
"""The sample of protocols 5.3."""


@dataclass
class Chip:
    """A card's chip behind T=0, without a reader."""

    card: BankCard
    seconds: float = 0.0
    asked: list[bytes] = field(default_factory=list)

    async def transmit(self, command: bytes) -> Response:
        async def once(part: bytes) -> Response:
            await asyncio.sleep(self.seconds)
            self.asked.append(part)
            return parse_response(bytearray(self.card.transmit(part)))

        return await exchange_t0(once, command)


def read(card: BankCard, directory: bytes = PSE, **chip: Any) -> emv.PaymentCard:
    return virtual_time.run(emv.read_payment_card(Chip(card, **chip), directory=directory))


def refusal(card: BankCard, **chip: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        read(card, **chip)
    return caught.value


def test_the_documents_directory_is_parsed() -> None:
    found = tlv.parse(PSE_FCI)
    assert [item.tag for item in tlv.walk(found)] == [0x6F, 0x84, 0xA5, 0x88, 0x5F2D, 0x9F11]
    assert tlv.find(found, 0x88) == b"\x02"
    assert tlv.find(found, 0x5F2D) == b"noen"
    assert tlv.find(found, 0x57) is None
    assert "noen" not in repr(found)


@pytest.mark.parametrize(
    "data",
    ["6F", "6F 05 84", "5A 80", "5A 83 000001 00", "9F", "9F 81 81 81 01 00", "61 03 4F 05 00", "5A 82 01"],
)
def test_malformed_tlv_is_refused(data: str) -> None:
    with pytest.raises(tlv.TlvError):
        tlv.parse(bytes.fromhex(data))


def test_tlv_is_bounded() -> None:
    with pytest.raises(tlv.TlvError):
        tlv.parse(b"\x5a\x00" * (tlv.MOST_OBJECTS + 1))
    deep = b""
    for _ in range(tlv.DEEPEST + 1):
        deep = tlv.encode(0x70, deep + b"\x5a\x00")
    with pytest.raises(tlv.TlvError):
        tlv.parse(deep)
    assert tlv.parse(bytes(300)) == (), "zeros are padding"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_tlv_or_refused(data: bytes) -> None:
    try:
        found = tlv.parse(data)
    except tlv.TlvError:
        return
    assert sum(len(item.value) for item in found) <= len(data)


@given(st.sampled_from([0x5A, 0x57, 0x5F24, 0x9F38]), st.binary(max_size=400))
def test_tlv_encodes_what_it_parses(tag: int, value: bytes) -> None:
    (item,) = tlv.parse(tlv.encode(tag, value))
    assert (item.tag, bytes(item.value)) == (tag, value)


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        (NUMBER, True),
        ("6222021234567890", False),
        ("79927398713", False),
        ("4111111111111111", True),
        ("", False),
        ("62220212345678９4", False),
    ],
)
def test_luhn(number: str, valid: bool) -> None:
    """ISO/IEC 7812-1; the third is the classic example, too short for a card."""
    assert luhn_valid(number) is valid


@given(st.integers(0, 15), st.integers(1, 9))
def test_luhn_sees_every_single_wrong_digit(at: int, by: int) -> None:
    wrong = NUMBER[:at] + str((int(NUMBER[at]) + by) % 10) + NUMBER[at + 1 :]
    assert not luhn_valid(wrong)


def test_track_2_has_number_and_expiry() -> None:
    assert split_track2(f"{NUMBER}=3012220") == (NUMBER, "3012")
    assert split_track2(f"{NUMBER}D3012220") == (NUMBER, "3012")
    assert split_track2(f"{NUMBER}=3013220") is None
    assert split_track2("6222021234567890=3012220") is None
    assert split_track2("") is None


def test_tracks_hold_and_wipe() -> None:
    """T20: the buffers they came in are overwritten."""
    buffers = {2: bytearray(f"{NUMBER}=3012220".encode()), 3: bytearray(b"99")}
    tracks = make_tracks(buffers, {1: "blank"})
    assert not any(map(any, buffers.values()))
    assert tracks.number is not None
    assert tracks.number.reveal() == NUMBER
    tracks.wipe()
    assert tracks.number.wiped


@pytest.mark.parametrize("directory", [PSE, PPSE], ids=["PSE", "PPSE"])
def test_what_a_payment_needs(directory: bytes) -> None:
    card = read(BankCard(), directory)
    assert (card.number.reveal(), card.expiry.reveal()) == (NUMBER, "3012")
    assert (card.application, card.label) == (UNIONPAY[0], "UnionPay Debit")
    assert card.track2 is not None
    assert bytes(card.track2.view()).hex().startswith(NUMBER + "d3012")


def test_a_card_without_a_directory_is_asked_for_each_application() -> None:
    chip = Chip(BankCard(directory=False, application=UNIONPAY[1]))
    card = virtual_time.run(emv.read_payment_card(chip))
    assert card.application == UNIONPAY[1]
    assert card.label == "UnionPay Debit"


def test_odd_numbers_are_padded() -> None:
    assert read(BankCard(number="6222021234567890128")).number.reveal() == "6222021234567890128"


@pytest.mark.parametrize(
    ("card", "code"),
    [
        (BankCard(application=bytes.fromhex("A0000000041010")), "cardreader.no_application"),
        (BankCard(blocked=True), "cardreader.card_blocked"),
        (BankCard(number="6222021234567890"), "cardreader.bad_number"),
        (BankCard(expiry="3013"), "cardreader.bad_card"),
    ],
    ids=["not UnionPay", "blocked", "wrong check digit", "month 13"],
)
def test_cards_that_pay_nothing(card: BankCard, code: str) -> None:
    error = refusal(card)
    assert error.code == code
    assert card.number not in f"{error} {error.advice}"


def test_a_slow_chip_has_a_deadline() -> None:
    """T13."""
    assert refusal(BankCard(), seconds=1).code == "cardreader.chip_slow"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_answers_of_a_chip_end_in_a_card_or_an_error(answers: list[bytes]) -> None:
    class Liar:
        async def transmit(self, command: bytes) -> Response:
            return Response(0x9000 if answers else 0x6A82, bytearray(answers.pop() if answers else b""))

    with pytest.raises(DeviceError):
        virtual_time.run(emv.read_payment_card(Liar()))


def test_the_cards_first_choice_comes_first() -> None:
    offered = [
        Application(UNIONPAY[3], "e-cash", 0),
        Application(bytes.fromhex("A0000000041010"), "another scheme", 1),
        Application(UNIONPAY[1], "credit", 2),
        Application(UNIONPAY[0] + b"\x01", "debit", 1),
    ]
    assert [application.label for application in emv.choose(offered)] == ["debit", "credit", "e-cash"]


def test_the_terminal_answers_what_the_card_asks() -> None:
    """9F66 TTQ, 9F02 amount, 9F1A country, 9F37 nonce."""
    asked = bytes.fromhex("9F6604 9F0206 9F1A02 9F3704")
    answer, other = emv.answer_options(asked), emv.answer_options(asked)
    assert answer[:12] == bytes.fromhex("26000080 000000000000 0156")
    assert len(answer) == 16
    assert answer[12:] != other[12:]
    with pytest.raises(DeviceError):
        emv.answer_options(bytes.fromhex("9F02FF"))


@pytest.mark.parametrize("locator", ["080101", "00010100", "08020100", "08000100", "0801FF00"])
def test_bad_locators_are_refused(locator: str) -> None:
    with pytest.raises(DeviceError) as caught:
        emv.parse_locator(bytes.fromhex(locator))
    assert caught.value.code == "cardreader.bad_card"


def test_t0_leaves_work_to_the_host() -> None:
    """protocols 5.3: 6Cxx repeats with that length, 61xx is fetched with GET RESPONSE."""
    chip = Chip(BankCard())
    virtual_time.run(emv.list_applications(chip, PSE))
    assert [part.hex()[:4] for part in chip.asked] == ["00a4", "00c0", "00b2", "00b2", "00b2"]
    assert chip.asked[1][:4] == bytes.fromhex("00C00000")
    assert chip.asked[3][:4] == chip.asked[2][:4]


def test_what_a_chip_said_before_it_broke_off_is_wiped() -> None:
    """T20: the error that follows keeps nothing of it."""
    kept: list[object] = []

    async def broken(part: bytes) -> Response:
        if kept:
            raise DeviceError("cardreader.chip_failed", "the chip broke off", advice="", retry=True)
        kept.append(part)
        return Response(0x6110, bytearray(NUMBER.encode()))

    with pytest.raises(DeviceError) as caught:
        virtual_time.run(exchange_t0(broken, b"\x00\xb2\x01\x0c\x00"))
    frames = [entry.frame.f_locals for entry in caught.traceback]
    assert any("collected" in names for names in frames)
    assert not any(NUMBER in str(value) for names in frames for value in names.values())


def test_a_card_that_never_ends_is_left() -> None:
    async def endless(part: bytes) -> Response:
        return Response(0x6110)

    assert virtual_time.run(exchange_t0(endless, b"\x00\xa4\x04\x00")).sw == 0x6110


@pytest.mark.parametrize(
    ("atr", "protocol"),
    [
        (ATR, ChipProtocol.T0),
        (bytes.fromhex("3B 80 01 81"), ChipProtocol.T1),
        (bytes.fromhex("3B F0 11 00 FF 01 00"), ChipProtocol.T1),
        (bytes.fromhex("3B 80"), ChipProtocol.T0),
        (b"", ChipProtocol.T0),
    ],
)
def test_the_protocol_an_atr_announces(atr: bytes, protocol: ChipProtocol) -> None:
    assert announced_protocol(atr) is protocol
