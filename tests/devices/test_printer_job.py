"""Jobs into bytes, read back by the virtual printer: the paper is the proof."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import DeviceError
from devices.printer.job import BAND_ROWS, Feed, Item, JobResult, Picture, Qr, Text, chunks, length_dots
from devices.printer.protocol import Align
from sim.devices.paper import Paper
from sim.devices.printer import VirtualPrinter

WIDTH = 576


def print_out(job: Sequence[Item], width: int = WIDTH) -> Paper:
    printer = VirtualPrinter(width_dots=width)
    said = b"".join(printer.feed(chunk) for chunk in chunks(job))
    assert said == bytes.fromhex("10 00 00 0F"), "automatic status begins, and nothing was taken for a question"
    assert len(printer.papers) + printer.scraps == 1
    assert printer.hanging.height_dots == 0
    return printer.papers[0] if printer.papers else Paper(width, b"")


def canvas(paper: Paper, width_bytes: int, height: int) -> bytes:
    """Return the left top part of a paper."""
    stride = paper.width_dots // 8
    rows = paper.rows.ljust(stride * height, b"\0")
    return b"".join(rows[at : at + width_bytes] for at in range(0, stride * height, stride))


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    width = draw(st.integers(1, 24))
    height = draw(st.integers(0, 3 * BAND_ROWS))
    byte = st.sampled_from([0x00, 0x00, 0x01, 0x04, 0x05, 0x10, 0x14, 0x80, 0xFF, 0x1B, 0x1D])
    rows = draw(st.lists(byte, min_size=width * height, max_size=width * height))
    return Picture(width * 8, height, bytes(rows))


@given(pictures())
@settings(max_examples=100, deadline=None)
def test_picture_bits_come_back_exactly(picture: Picture) -> None:
    """Every dot is printed where it belongs; only a 10 before 04, 05 or 14 becomes 18 (protocols 3.6)."""
    width = picture.width_dots // 8
    seen = canvas(print_out([picture]), width, picture.height_dots)
    for at, (sent, printed) in enumerate(zip(picture.rows, seen, strict=True)):
        assert printed == sent or (sent, printed) == (0x10, 0x18), at


@given(st.binary(min_size=72 * 30, max_size=72 * 30))
@settings(max_examples=30, deadline=None)
def test_full_width_pictures(rows: bytes) -> None:
    rows = rows.replace(b"\x10", b"\x11")
    assert canvas(print_out([Picture(WIDTH, 30, bytearray(rows))]), 72, 30) == rows


def test_white_at_the_right_is_not_sent() -> None:
    """A page of text and margins takes a fraction of the line time (T4)."""
    rows = b"".join(b"\xff" + bytes(71) for _ in range(240))
    sent = b"".join(chunks([Picture(WIDTH, 240, rows)]))
    assert len(sent) < 600
    assert canvas(print_out([Picture(WIDTH, 240, rows)]), 72, 240) == rows


ITEMS: st.SearchStrategy[Item] = st.one_of(
    st.builds(Text, st.text("社会保险参保证明 abcXYZ09:.", max_size=60), st.sampled_from(Align), st.booleans()),
    pictures(),
    st.builds(Qr, st.text("htps:/.govcn?=0123456789", max_size=250).map("h{}".format)),
    st.builds(Feed, st.integers(0, 20)),
)


@given(st.lists(ITEMS, max_size=6), st.sampled_from([384, 576]))
@settings(max_examples=60, deadline=None)
def test_the_length_told_is_the_length_printed(job: list[Item], width: int) -> None:
    """The achieved speed is counted in the paper that really moved (T4)."""
    told = length_dots(job, width)
    paper = print_out(job, width)
    assert paper.height_dots in (0, told)


def test_a_cut_ends_every_job() -> None:
    assert list(chunks([]))[-1] == bytes.fromhex("1D 56 41 60")
    assert next(chunks([Feed(1)])) == bytes.fromhex("1B 40 1D 61 0E")


@pytest.mark.parametrize(
    "item",
    [
        Picture(584, 1, bytes(73)),
        Picture(0, 1, b""),
        Picture(16, 2, bytes(3)),
        Picture(16, -1, b""),
        Picture(8, 20_000, bytes(20_000)),
        Feed(-1),
        Feed(256),
        Qr(""),
        Qr("x" * 252),
    ],
    ids=repr,
)
def test_what_the_paper_cannot_hold_is_refused(item: Item) -> None:
    with pytest.raises(DeviceError) as caught:
        length_dots([Text("ok"), item], WIDTH)
    assert (caught.value.code, caught.value.retry) == ("printer.bad_job", False)


@pytest.mark.parametrize("item", [Text("㐀"), Text("a\nb"), Qr("https://政府")], ids=repr)
def test_unprintable_text_is_refused(item: Item) -> None:
    with pytest.raises(DeviceError) as caught:
        length_dots([item], WIDTH)
    assert caught.value.code == "printer.unprintable_text"


def test_items_do_not_show_their_content() -> None:
    """A log line with an item in it tells nothing of a citizen (T20)."""
    for item in (Text("张三"), Qr("https://a.gov.cn/11010119900307"), Picture(8, 1, b"\x5a")):
        assert not any(secret in repr(item) for secret in ("张三", "gov", "Z", "\\x5a"))


def test_speed_is_known_only_of_printed_paper() -> None:
    assert JobResult("printed", None, 200.0, 2.0).millimetres_per_second == 100.0
    assert JobResult("unknown", "printer.lost", 0.0, 2.0).millimetres_per_second is None
