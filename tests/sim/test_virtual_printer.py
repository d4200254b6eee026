"""The virtual printer against documents' bytes, python-escpos, OpenCV's QR reader and any bytes at all."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from escpos.printer import Dummy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from sim.devices.paper import Font, Paper
from sim.devices.printer import VirtualPrinter

CUT = bytes.fromhex("1D 56 00")
AUTOMATIC = bytes.fromhex("1D 61 0E")
QR = bytes.fromhex(
    "1D286B040031413200 1D286B03003143 06 1D286B0300314531"
    "1D286B1300315030 68747470733A2F2F612E676F762E636E 1D286B0300315130"
)


def ink(paper: Paper) -> np.ndarray[Any, Any]:
    """Return a paper as an array of 0 and 1."""
    bits = np.unpackbits(np.frombuffer(paper.rows, np.uint8))
    return bits.reshape(paper.height_dots, paper.width_dots)


def printed(data: bytes) -> Paper:
    printer = VirtualPrinter()
    printer.feed(data + CUT)
    (paper,) = printer.papers
    return paper


def test_a_raster_of_the_document() -> None:
    dots = ink(printed(bytes.fromhex("1D 76 30 00 02 00 02 00 FF FF FF FF")))
    assert dots.shape == (2, 576)
    assert dots[:, :16].all()
    assert not dots[:, 16:].any()


@pytest.mark.parametrize(("align", "left"), [(0, 0), (1, 280), (2, 560)])
def test_alignment(align: int, left: int) -> None:
    dots = ink(printed(bytes((0x1B, 0x61, align)) + bytes.fromhex("1D763000 0200 0100 FFFF")))
    assert np.flatnonzero(dots[0]).tolist() == list(range(left, left + 16))


def test_a_picture_wider_than_the_head_is_cropped() -> None:
    dots = ink(printed(bytes.fromhex("1D763000 5000 0100") + b"\x01" * 80))
    assert np.flatnonzero(dots[0]).tolist() == list(range(7, 576, 8))


def test_text_takes_the_cells_of_the_document() -> None:
    """Font A is 12x24, a Chinese glyph 24x24, a line 30 dots (protocols 3.1)."""
    dots = ink(printed(bytes.fromhex("1C 26 B1 B1 BE A9 CA D0 0A 1C 2E")))
    assert dots.shape == (30, 576)
    assert dots[:24, :72].any()
    assert not dots[:, 72:].any()
    double = ink(printed(bytes.fromhex("1D 21 11 1C 57 01 B1 B1 BE A9 CA D0 0A")))
    assert double.shape == (48, 576)
    assert (double[::2, :144:2] == dots[:24, :72]).all()


def test_bold_has_more_ink() -> None:
    plain, bold = ink(printed(b"govterm\n")), ink(printed(b"\x1bE\x01govterm\n"))
    assert bold.sum() > plain.sum()
    assert (bold >= plain).all()


def test_long_lines_wrap() -> None:
    """48 columns on 80 mm paper (protocols 3.1)."""
    assert printed(b"x" * 48 + b"\n").height_dots == 30
    assert printed(b"x" * 49 + b"\n").height_dots == 60


def test_outside_chinese_mode_high_bytes_are_latin() -> None:
    """In Chinese mode, which is on after power-up, they turn into hanzi (protocols 3.6)."""
    chinese, latin = printed(b"\xc4\xe3\n"), printed(b"\x1c\x2e\xc4\xe3\n")
    assert (ink(chinese) != ink(latin)).any()


def test_a_font_file_draws_the_glyphs(tmp_path: Path) -> None:
    """A font file given by path is used: here Pillow's own, written to a file."""
    font = ImageFont.load_default(24)
    assert isinstance(font, ImageFont.FreeTypeFont)
    file = tmp_path / "font.ttf"
    file.write_bytes(font.font_bytes)
    glyphs = [Font(path).glyph("A", wide=False, bold=False, scale=(1, 1)) for path in (None, file)]
    assert glyphs[0].tobytes() == glyphs[1].tobytes()
    with pytest.raises(OSError, match="cannot open resource"):
        Font(tmp_path / "none.ttf")


def test_the_qr_code_of_the_document_is_readable() -> None:
    """Read back by OpenCV from the PNG (T7)."""
    paper = printed(b"\x1b\x61\x01\x1b\x64\x02" + QR + b"\x1b\x64\x02")
    with Image.open(io.BytesIO(paper.png())) as picture:
        assert picture.info["dpi"] == pytest.approx((203, 203), abs=0.5)
        grey = np.array(picture.convert("L"))
    assert (grey == 255).sum() == (ink(paper) == 0).sum(), "black on white"
    assert cv2.QRCodeDetector().detectAndDecode(grey)[0] == "https://a.gov.cn"


ESCPOS_PICTURE = st.integers(1, 6).flatmap(
    lambda width: st.binary(min_size=width * 16, max_size=width * 16).map(lambda rows: (width, rows))
)


@given(ESCPOS_PICTURE)
@settings(max_examples=40, deadline=None)
def test_pictures_of_python_escpos(picture: tuple[int, bytes]) -> None:
    """python-escpos knows nothing of this project, and our printer prints its pictures dot for dot."""
    width, rows = picture
    rows = rows.replace(b"\x10", b"\x11")  # python-escpos does not hide real-time commands
    escpos = Dummy()
    inverted = Image.frombytes("1", (width * 8, 16), bytes(byte ^ 0xFF for byte in rows))
    escpos.image(inverted, impl="bitImageRaster")
    printer = VirtualPrinter()
    printer.feed(escpos.output + CUT)
    seen = ink(printer.papers[0])[:16, : width * 8] if printer.papers else np.zeros((16, width * 8), np.uint8)
    assert np.packbits(seen).tobytes() == rows


def test_qr_and_cut_of_python_escpos() -> None:
    escpos = Dummy()
    escpos.ln(2)
    escpos.qr("https://a.gov.cn", native=True, size=6)
    escpos.cut()
    printer = VirtualPrinter()
    assert printer.feed(escpos.output) == b""
    (paper,) = printer.papers
    assert cv2.QRCodeDetector().detectAndDecode(ink(paper) * np.uint8(255) ^ 255)[0] == "https://a.gov.cn"
    assert not ink(paper)[-6 * 30 :].any(), "python-escpos feeds 6 lines before it cuts"


@pytest.mark.parametrize(
    ("verb", "cure", "replies", "frame"),
    [
        ("paper_out", "refill", "1A 32 12 72", "18 00 0C 0F"),
        ("open_cover", "close_cover", "1A 16 12 12", "38 00 00 0F"),
        ("cutter_jam", "heal", "1A 52 1A 12", "18 08 00 0F"),
        ("head_hot", "heal", "1A 52 52 12", "18 40 00 0F"),
        ("near_end", "refill", "12 12 12 1E", "10 00 03 0F"),
    ],
)
def test_verbs_show_in_the_documents_bytes(verb: str, cure: str, replies: str, frame: str) -> None:
    """T4: DLE EOT 1 to 4 and the automatic status, while offline too."""
    printer = VirtualPrinter()
    idle = bytes.fromhex("10 00 00 0F")
    assert printer.feed(AUTOMATIC) == idle
    printer.verbs[verb]()
    assert printer.feed(b"") == bytes.fromhex(frame)
    assert b"".join(printer.feed(bytes((0x10, 4, n))) for n in (1, 2, 3, 4)) == bytes.fromhex(replies)
    printer.verbs[cure]()
    assert printer.feed(b"") == idle
    assert printer.feed(bytes.fromhex("10 04 01 10 04 02")) == b"\x12\x12"
    assert printer.verbs.keys() >= {"heal", "silent"}


def test_what_waits_while_offline_comes_out_after_the_refill() -> None:
    """The trap of L16; 10 05 02 is the way out of it."""
    for clear in (False, True):
        printer = VirtualPrinter()
        printer.paper_out()
        assert printer.feed(b"A receipt\n" + CUT + bytes.fromhex("1D 72 01")) == b""
        if clear:
            printer.feed(bytes.fromhex("10 05 02 1B 40"))
        assert not printer.papers
        printer.refill()
        assert len(printer.papers) == (not clear)
        assert printer.feed(b"") == (b"" if clear else b"\x00"), "GS r waits for its turn"


def test_a_fault_after_some_paper() -> None:
    printer = VirtualPrinter()
    printer.feed(AUTOMATIC)
    printer.paper_out(after_millimetres=10)
    said = printer.feed(bytes.fromhex("1D763000 0100 A000") + b"\xff" * 160)
    assert said == bytes.fromhex("18 00 0C 0F")
    assert printer.hanging.height_dots == 80
    printer.refill()
    assert printer.hanging.height_dots == 160


def test_flow_control_while_offline() -> None:
    """XOFF when the buffer fills, XON when it empties; what does not fit is lost, and nothing else."""
    printer = VirtualPrinter()
    printer.open_cover()
    one_dot = bytes.fromhex("1B 4A 01")
    assert printer.feed(one_dot * 1_500) == b"\x13"
    assert printer.feed(one_dot * 30_000) == b""
    printer.close_cover()
    assert printer.feed(b"") == b"\x11"
    assert printer.hanging.height_dots == 65_536 // 3


def test_silence_and_healing() -> None:
    printer = VirtualPrinter()
    printer.silent()
    assert printer.feed(bytes.fromhex("10 04 01") + b"x\n" + CUT) == b""
    assert len(printer.papers) == 1, "it goes on printing"
    printer.heal()
    assert printer.feed(bytes.fromhex("10 04 01")) == b"\x12"


def test_real_time_commands_inside_a_picture_are_done() -> None:
    """Protocols 3.6: the answer comes at once, and the bytes are picture all the same."""
    printer = VirtualPrinter()
    assert printer.feed(bytes.fromhex("1D763000 0300 0100 10 04")) == b""
    assert printer.feed(b"\x01" + CUT) == b"\x12"
    assert printer.papers[0].rows[:3] == bytes.fromhex("10 04 01")


def test_identity_and_sensor_questions() -> None:
    printer = VirtualPrinter()
    assert printer.feed(bytes.fromhex("1D 49 44")) == b"\x5fVIRTUAL\x00"
    assert printer.feed(bytes.fromhex("1D 49 01 1B 76 1D 72 02")) == b"\x01\x00\x00"
    printer.near_end()
    assert printer.feed(bytes.fromhex("1D 72 01")) == b"\x03"


def test_papers_go_to_the_host() -> None:
    seen: list[Paper] = []
    printer = VirtualPrinter(on_paper=seen.append)
    printer.feed(b"one\n" + CUT + b"\x1bd\x05" + CUT + b"two\n" + CUT)
    assert seen == list(printer.papers)
    assert (len(seen), printer.scraps) == (2, 1), "a blank piece is scrap"


def test_the_time_of_the_mechanism() -> None:
    """800 rows at 203 dpi are 100 mm (T4)."""
    paper = Paper(576, bytes(72 * 799))
    assert paper.millimetres == pytest.approx(99.97, abs=0.01)
    assert paper.seconds_at(100.0) == pytest.approx(1.0, abs=0.001)


COMMANDS = st.sampled_from(
    [
        bytes.fromhex(text)
        for text in ("1D7630000100FF00", "1D286B", "1D5641", "1B64FF", "1C26", "1B33FF", "1006", QR.hex())
    ]
)


@given(st.lists(st.one_of(st.binary(max_size=30), COMMANDS), max_size=20), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_any_bytes_in_any_chunks(parts: list[bytes], size: int) -> None:
    """Nothing crashes it, and it does not matter how the bytes arrive."""
    data = b"".join(parts)
    whole, pieces = VirtualPrinter(), VirtualPrinter()
    said = b"".join(pieces.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert said == whole.feed(data)
    assert list(pieces.papers) == list(whole.papers)
    assert pieces.hanging == whole.hanging


def test_paper_that_is_never_cut_falls_at_last() -> None:
    """A program that forgets to cut does not fill the memory."""
    printer = VirtualPrinter()
    printer.feed(b"\x1b\x64\xff" * 8)
    assert printer.hanging.height_dots == 8 * 255 * 30 - 40_000
    assert printer.scraps == 1
