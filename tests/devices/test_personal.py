"""Types of personal data print masked, refuse copies and wipe (T20, T22)."""

import copy
import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.personal import Kind, PersonalBytes, PersonalText, mask


@pytest.mark.parametrize(
    ("text", "kind", "masked"),
    [
        ("110101199003074514", Kind.IDENTIFIER, "110*************14"),
        ("1234567890", Kind.IDENTIFIER, "123*****90"),
        ("6222021234567894", Kind.CARD_NUMBER, "622***********94"),
        ("123456789", Kind.IDENTIFIER, "123*****9"),
        ("12345678", Kind.IDENTIFIER, "123****8"),
        ("1234567", Kind.IDENTIFIER, "*******"),
        ("张三丰", Kind.NAME, "张**"),
        ("王", Kind.NAME, "*"),
        ("19900307", Kind.DATE, "********"),
        ("北京市东城区模拟路1号", Kind.ADDRESS, "********"),
        ("", Kind.ADDRESS, ""),
        ("13900000001", Kind.TELEPHONE, "*******0001"),
        ("1234567", Kind.TELEPHONE, "*******"),
        ("路灯坏了三个月没有人修", Kind.TEXT, "********"),
    ],
)
def test_masks_of_t22(text: str, kind: Kind, masked: str) -> None:
    assert mask(text, kind) == masked


@given(st.text(alphabet="甲乙丙丁0123456789", max_size=40), st.sampled_from(Kind))
def test_t22_never_more_than_five_and_never_more_than_half(text: str, kind: Kind) -> None:
    shown = sum(character != "*" for character in mask(text, kind))
    assert shown <= 5
    assert shown <= len(text) / 2


@pytest.mark.parametrize("value", [PersonalText("测试用户", Kind.NAME), PersonalBytes("测试用户".encode())])
def test_t20_no_way_out_but_the_doors(value: PersonalText | PersonalBytes) -> None:
    assert "测试用户" not in f"{value} {value!r} {[value]} {(value,)}"
    assert not hasattr(value, "__dict__")
    for refuse in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            refuse(value)
    with pytest.raises(TypeError):
        json.dumps(value)
    with pytest.raises(TypeError):
        msgspec.msgpack.encode(value)


def test_t20_a_wiped_text_is_overwritten() -> None:
    text = PersonalText("测试用户", Kind.NAME)
    buffer = text._buffer
    assert text.reveal() == "测试用户"
    text.wipe()
    assert text.wiped
    assert buffer == bytes(12)
    for use in (text.reveal, text.masked):
        with pytest.raises(ValueError, match="wiped"):
            use()
    assert repr(text) == "<name wiped>"
    text.wipe()


def test_bytes_are_viewed_in_place() -> None:
    block = PersonalBytes(b"\x01\x02\x03")
    assert len(block) == 3
    with block.view() as view:
        assert view.obj is block._buffer
    block.wipe()
    assert len(block) == 0
    with pytest.raises(ValueError, match="wiped"):
        block.view()


def test_an_exported_view_sees_the_wipe() -> None:
    block = PersonalBytes(b"\x01\x02\x03")
    view = block.view()
    block.wipe()
    assert bytes(view) == bytes(3)
    view.release()
