"""The card's record: read, cross-checked, and refused when it contradicts itself (T1, T20, T22)."""

import copy
import datetime
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import DeviceError
from devices.idcard.layout import CitizenText, Variant, encode_text_block
from devices.idcard.numbers import check_digit
from devices.idcard.protocol import CardBlocks
from devices.idcard.record import CardRecord, nation_name
from devices.idcard.record import parse_record as parse_blocks
from sim.people import make_citizen

VECTORS = Path(__file__).parents[1] / "vectors" / "idcard_frames.txt"
BASE = bytes.fromhex(
    next(line for line in VECTORS.read_text().splitlines() if "| base (30 01) |" in line).split(" | ")[2]
)
TEXT, PHOTO = BASE[14 : 14 + 256], BASE[14 + 256 : -1]
EXAMPLE = CitizenText(
    name="测试用户",
    sex="1",
    nation="01",
    birth="19900307",
    address="北京市东城区模拟路1号",
    id_number="110101199003074514",
    issuer="北京市公安局东城分局",
    valid_from="20200101",
    valid_to="20400101",
)


def parse_record(text: bytearray, photo: bytearray) -> CardRecord:
    return parse_blocks(CardBlocks(text, photo, None))


def parse(text: CitizenText, flag: str = " ") -> CardRecord:
    return parse_record(bytearray(encode_text_block(text, flag=flag)), bytearray(PHOTO))


def refusal(text: CitizenText, flag: str = " ") -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        parse(text, flag)
    error = caught.value
    said = str(error) + error.advice
    assert not any(value and value in said for value in asdict(text).values() if len(value) > 2), (
        "an error quotes a card"
    )
    return error


def with_check_digit(first_seventeen: str) -> str:
    return first_seventeen + check_digit(first_seventeen)


def test_the_worked_example_is_read() -> None:
    """protocols 1.5, T1."""
    record = parse_record(bytearray(TEXT), bytearray(PHOTO))
    assert record.name.reveal() == "测试用户"
    assert (record.sex, record.nation) == ("男", "汉")
    assert record.birth.reveal() == "19900307"
    assert record.address.reveal() == "北京市东城区模拟路1号"
    assert record.id_number.reveal() == "110101199003074514"
    assert record.issuer.reveal() == "北京市公安局东城分局"
    assert record.valid_from == datetime.date(2020, 1, 1)
    assert record.valid_to == datetime.date(2040, 1, 1)
    assert bytes(record.photo.view()) == PHOTO


def test_the_rig_writes_the_worked_example() -> None:
    assert encode_text_block(EXAMPLE) == TEXT


def test_a_record_prints_masked_and_wipes() -> None:
    """T20, T22: nothing of a record prints, copies or stays."""
    record = parse_record(bytearray(TEXT), bytearray(PHOTO))
    printed = f"{record} {record!r} {record.name} {record.id_number} {record.address} {record.birth}"
    assert not any(value in printed for value in ("测试用户", "0101199", "东城", "1990"))
    assert "测***" in printed
    assert "110*************14" in printed
    with pytest.raises(TypeError):
        pickle.dumps(record)
    with pytest.raises(TypeError):
        copy.deepcopy(record)
    record.wipe()
    values = (record.name, record.birth, record.address, record.id_number, record.issuer, record.photo)
    assert all(value.wiped for value in values)
    record.wipe()


@pytest.mark.parametrize(
    "number",
    [
        "11010519491231002X",
        "440524188001010014",
        "110101199003074514",
        "810000199001010019",
        "820000199001010010",
        "830000199001010012",
    ],
)
def test_check_digits_of_the_document(number: str) -> None:
    """GB 11643, samples of protocols 1.8."""
    assert check_digit(number[:17]) == number[17]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_every_synthetic_citizen_is_read(index: int, seed: int) -> None:
    citizen = make_citizen(index, seed)
    record = parse_record(bytearray(encode_text_block(CitizenText(**asdict(citizen)))), bytearray(PHOTO))
    assert record.name.reveal() == citizen.name
    assert record.sex == citizen.sex_name
    assert record.nation == citizen.nation_name


@pytest.mark.parametrize("position", range(18))
def test_every_wrong_digit_of_a_number_is_found(position: int) -> None:
    digit = EXAMPLE.id_number[position]
    wrong = "5" if digit != "5" else "6"
    number = EXAMPLE.id_number[:position] + wrong + EXAMPLE.id_number[position + 1 :]
    error = refusal(replace(EXAMPLE, id_number=number))
    assert error.code == "idcard.bad_check_digit"
    assert not error.retry


@pytest.mark.parametrize("flag", ["K", "j", "Z", "\u4a00"])
def test_a_card_of_an_unknown_kind_is_refused(flag: str) -> None:
    assert refusal(EXAMPLE, flag).code == "idcard.variant_unsupported"


def test_a_zero_flag_is_a_citizen_too() -> None:
    record = parse(EXAMPLE, "\0")
    assert (record.variant, record.permit) == (Variant.CITIZEN, None)


def test_long_term_cards_do_not_expire() -> None:
    record = parse_record(bytearray(encode_text_block(replace(EXAMPLE, valid_to="长期"))), bytearray(PHOTO))
    assert record.valid_to is None


@pytest.mark.parametrize(
    ("sex", "name"),
    [("0", "未知"), ("9", "未说明")],
)
def test_an_unstated_sex_is_read_as_such(sex: str, name: str) -> None:
    record = parse_record(bytearray(encode_text_block(replace(EXAMPLE, sex=sex))), bytearray(PHOTO))
    assert record.sex == name


@pytest.mark.parametrize(
    ("code", "name"),
    [("01", "汉"), ("10", "朝鲜"), ("30", "土"), ("46", "德昂"), ("56", "基诺"), ("97", "其他")],
)
def test_nations_of_the_table(code: str, name: str) -> None:
    """GB/T 3304, protocols 1.8."""
    assert nation_name(code) == name


@pytest.mark.parametrize("code", ["00", "57", "96", "99"])
def test_unassigned_nations_are_not_guessed(code: str) -> None:
    record = parse_record(bytearray(encode_text_block(replace(EXAMPLE, nation=code))), bytearray(PHOTO))
    assert record.nation == f"其他({code})"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sex": "2"}, "sex differs"),
        ({"sex": "3"}, "sex has no meaning"),
        ({"sex": ""}, "sex has no meaning"),
        ({"birth": "19900308"}, "birth differs"),
        ({"birth": "19901332"}, "birth is not a date"),
        ({"birth": ""}, "birth is not a date"),
        ({"id_number": with_check_digit("11010119900230451"), "birth": "19900230"}, "birth is not a date"),
        ({"valid_from": "20200230"}, "valid_from is not a date"),
        ({"valid_from": "长期"}, "valid_from is not a date"),
        ({"valid_to": "２０４００１０１"}, "valid_to is not a date"),
        ({"valid_to": ""}, "valid_to is not a date"),
        ({"valid_to": "20190101"}, "out of order"),
        ({"valid_from": "19890101"}, "out of order"),
        ({"id_number": ""}, "not 17 digits"),
        ({"id_number": "11010119900307451"}, "not 17 digits"),
        ({"id_number": "1101011990030745x4"}, "not 17 digits"),
        ({"id_number": "11010119900307451x"}, "not 17 digits"),
        ({"nation": "汉"}, "nation is not a number"),
        ({"name": ""}, "the name is empty"),
        ({"address": ""}, "the address is empty"),
        ({"name": "测试\x1b@"}, "control characters"),
        ({"address": "北京\n市"}, "control characters"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(change: dict[str, str], what: str) -> None:
    error = refusal(replace(EXAMPLE, **change))
    assert error.code == "idcard.bad_record"
    assert what in str(error)


def test_text_that_is_not_utf16_is_refused() -> None:
    block = bytearray(TEXT)
    block[0:2] = b"\x00\xd8"
    with pytest.raises(DeviceError, match="not UTF-16"):
        parse_record(block, bytearray(PHOTO))


@pytest.mark.parametrize(("text", "photo"), [(255, 1024), (256, 1023), (0, 0)])
def test_blocks_of_wrong_sizes_are_refused(text: int, photo: int) -> None:
    with pytest.raises(DeviceError, match="wrong sizes"):
        parse_record(bytearray(TEXT[:text]), bytearray(PHOTO[:photo]))


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=256, max_size=256))
def test_any_text_block_gives_a_record_or_a_device_error(block: bytes) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_record(bytearray(block), bytearray(PHOTO))
    assert caught.value.code.startswith("idcard.")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 255), st.integers(0, 7))
def test_a_flipped_bit_gives_a_record_or_a_device_error(index: int, bit: int) -> None:
    block = bytearray(TEXT)
    block[index] ^= 1 << bit
    outcome = EXAMPLE.id_number
    try:
        outcome = parse_record(block, bytearray(PHOTO)).id_number.reveal()
    except DeviceError as error:
        outcome = error.code
    assert outcome in {EXAMPLE.id_number, "idcard.bad_record", "idcard.bad_check_digit", "idcard.variant_unsupported"}


def test_a_rare_character_outside_the_basic_plane_is_kept() -> None:
    record = parse_record(bytearray(encode_text_block(replace(EXAMPLE, name="王\U00020bb7"))), bytearray(PHOTO))
    assert record.name.reveal() == "王\U00020bb7"


def test_a_field_too_long_is_not_written() -> None:
    with pytest.raises(ValueError, match="field of 30"):
        encode_text_block(replace(EXAMPLE, name="王" * 16))
