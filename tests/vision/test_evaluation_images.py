"""Whatever lies in a list or a picture file: a coded refusal or a counted failure, never a crash (T9)."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from sim.assets import Assets
from vision.errors import VisionError
from vision.evaluation import images
from vision.evaluation.chip import as_chip
from vision.evaluation.images import Listed, decode_picture, read_images, read_pairs
from vision.models import Image

FORMATS = {"JPEG": ("L", "RGB", "CMYK"), "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "GIF": ("P", "L")}
FORMATS |= {"WEBP": ("RGB", "RGBA"), "TIFF": ("L", "RGB", "CMYK", "F"), "BMP": ("L", "RGB"), "PPM": ("L", "RGB")}


def encoded(picture: Pillow.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width: int, height: int) -> Pillow.Image:
    """Return a picture that is dark at the top and light at the bottom."""
    column = np.linspace(20, 230, height).astype(np.uint8)
    return Pillow.fromarray(np.repeat(column[:, None], width, axis=1)).convert("RGB")


@given(
    st.sampled_from([(kind, mode) for kind, modes in FORMATS.items() for mode in modes]),
    st.integers(1, 80),
    st.integers(1, 80),
)
@settings(max_examples=150, deadline=None)
def test_pictures_of_every_type_and_size_become_bgr(kind_and_mode: tuple[str, str], width: int, height: int) -> None:
    kind, mode = kind_and_mode
    shades = gradient(width, height)
    picture = Pillow.new(mode, (width, height)) if mode == "I;16" else shades.convert(mode)
    decoded = decode_picture(encoded(picture, kind))
    assert not isinstance(decoded, str)
    assert (decoded.shape, decoded.dtype) == ((height, width, 3), np.uint8)
    if mode in {"L", "RGB", "CMYK", "RGBA", "P"} and height > 10:
        assert decoded[-2].mean() > decoded[1].mean() + 60


def test_grey_of_sixteen_bits_keeps_its_shades() -> None:
    shades = np.repeat(np.linspace(0, 65_535, 100).astype(np.uint16)[:, None], 8, axis=1)
    for kind in ("PNG", "TIFF"):
        decoded = decode_picture(encoded(Pillow.fromarray(shades), kind))
        assert not isinstance(decoded, str)
        assert np.allclose(decoded[:, 0, 0], np.linspace(0, 255, 100), atol=1.5)


def test_colours_are_kept() -> None:
    for mode in ("RGB", "CMYK", "P"):
        red = Pillow.new("RGB", (16, 16), (250, 5, 5)).convert(mode)
        kind = "PNG" if mode == "P" else "TIFF"
        decoded = decode_picture(encoded(red, kind))
        assert not isinstance(decoded, str)
        assert decoded[8, 8, 2] > 200
        assert decoded[8, 8, :2].max() < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_by_its_exif(orientation: int) -> None:
    upright = gradient(30, 20)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored_as = {
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_90,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_270,
    }
    stored = upright if orientation == 1 else upright.transpose(stored_as[orientation])
    decoded = decode_picture(encoded(stored, "PNG", exif=exif))
    assert not isinstance(decoded, str)
    assert np.array_equal(decoded[:, :, ::-1], np.asarray(upright))


def test_of_an_animation_the_first_picture_is_taken() -> None:
    frames = [Pillow.new("RGB", (20, 20), (shade, shade, shade)) for shade in (10, 120, 240)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        decoded = decode_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert not isinstance(decoded, str)
        assert decoded.mean() < 20


def test_a_truncated_picture_is_unreadable_or_whole_enough(assets: Assets) -> None:
    """Every format cut at many places: a failure, or a picture of the right size."""
    with Pillow.open(assets.portraits["eileen_collins"]) as opened:
        portrait = opened.convert("RGB").resize((64, 48))
    for kind in FORMATS:
        data = encoded(portrait, kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes = [decode_picture(data[:length]) for length in range(0, len(data), max(1, len(data) // 150))]
        assert outcomes[0] == "unreadable"
        assert all(isinstance(one, str) or one.shape == (48, 64, 3) for one in outcomes)
        assert "unreadable" in {one for one in outcomes if isinstance(one, str)}


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_picture_or_unreadable(data: bytes) -> None:
    for head in (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\x00", b"P6 "):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = decode_picture(head + data)
        assert isinstance(outcome, np.ndarray) or outcome in {"unreadable", "too_large"}


def test_huge_pictures_are_told_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = encoded(Pillow.new("1", (9000, 9000)), "PNG")
    assert decode_picture(flat) == "too_large"
    bomb = encoded(Pillow.new("1", (20_000, 20_000)), "PNG")
    assert decode_picture(bomb) == "too_large"
    monkeypatch.setattr(images, "_LARGEST_BYTES", 100)
    assert decode_picture(bytes(101)) == "too_large"


def test_a_large_picture_is_taken_as_a_camera_would_give_it() -> None:
    for size, expected in (((4000, 3000), (960, 1280)), ((5000, 1), (1, 1280)), ((1280, 720), (720, 1280))):
        decoded = decode_picture(encoded(gradient(*size), "PNG"))
        assert not isinstance(decoded, str)
        assert decoded.shape[:2] == expected


def test_lists_are_read_with_their_pairs(tmp_path: Path) -> None:
    listing, pairs = tmp_path / "images.tsv", tmp_path / "pairs.tsv"
    listing.write_text("甲\ta b.jpg\r\n\n乙\tc.jpg\n甲\td.jpg")
    listed = read_images(listing)
    assert listed == [Listed("甲", "a b.jpg"), Listed("乙", "c.jpg"), Listed("甲", "d.jpg")]
    listing.write_text(listing.read_text(), encoding="utf-8-sig")  # with the mark that some editors put first
    assert read_images(listing) == listed
    pairs.write_text("d.jpg\ta b.jpg\n")
    assert read_pairs(pairs, listed) == [(2, 0)]
    pairs.write_text("")
    assert read_pairs(pairs, listed) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no picture"),
        (b"a\tx.jpg\nb\tx.jpg\n", "listed twice"),
        (b"a x.jpg\n", "line 1"),
        (b"a\tx.jpg\n\tb.jpg\n", "line 2"),
        (b"a\tb\tc\n", "line 1"),
        (b"\xff\xfe\x00", "utf-8"),
        (None, "No such file"),
    ],
)
def test_a_list_with_mistakes_is_refused(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "images.tsv").write_bytes(content)
    with pytest.raises(VisionError, match=told) as caught:
        read_images(tmp_path / "images.tsv")
    assert (caught.value.code, caught.value.retry) == ("images.malformed", False)


@pytest.mark.parametrize(
    ("line", "told"),
    [("a\tz", "z is not in"), ("a\ta", "paired with itself"), ("a\tc", "two identities"), ("a", "line")],
)
def test_pairs_with_mistakes_are_refused(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "pairs.tsv").write_text(line)
    with pytest.raises(VisionError, match=told) as caught:
        read_pairs(tmp_path / "pairs.tsv", [Listed("A", "a"), Listed("A", "b"), Listed("C", "c")])
    assert caught.value.code == "images.malformed"


def test_a_chip_photo_has_its_size_whatever_the_picture() -> None:
    landmarks = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)
    random = np.random.default_rng(1)
    pictures: list[Image] = [
        random.integers(0, 256, (120, 100, 3), dtype=np.uint8),
        np.zeros((120, 100, 3), np.uint8),
        np.full((1, 1, 3), 200, np.uint8),
    ]
    for picture in pictures:
        for scale in (0.0, 0.05, 1.0, 10.0):
            assert as_chip(picture, landmarks * np.float32(scale)).shape == (126, 102, 3)
