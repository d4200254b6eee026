"""Positive controls of the personal-data scan (T20): what is planted is found, so a zero is worth something."""

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.people import make_citizen
from sim.scan import needles, scan_bytes, scan_files


def noise(kind: str, size: int) -> bytes:
    return hashlib.shake_128(kind.encode()).digest(size)


CITIZEN = make_citizen(7, 1)
TEXTS = {"name": CITIZEN.name, "id_number": CITIZEN.id_number, "address": CITIZEN.address}
PHOTO = noise("photo", 1024)
WANTED = needles(TEXTS, {"photo": PHOTO})

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "base64": base64.b64encode,
    "base64 after one byte": lambda data: base64.b64encode(b"\xff" + data + b"\xff\xff\xff"),
    "base64 after two bytes": lambda data: base64.b64encode(b"\xff\xff" + data + b"\xff\xff"),
    "hex": lambda data: data.hex().encode(),
    "HEX": lambda data: data.hex().upper().encode(),
    "Python escapes": lambda data: repr(data).encode(),
    "zlib": zlib.compress,
    "zlib, fastest": lambda data: zlib.compress(data, 1),
    "gzip": gzip.compress,
    "gzip of base64": lambda data: gzip.compress(base64.b64encode(data)),
    "damaged zlib": lambda data: zlib.compress(data + noise("rest", 4000))[:-2000],
}


def kinds(data: bytes) -> set[str]:
    return {finding.what for finding in scan_bytes(data, WANTED)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "gb18030"])
def test_a_text_is_found_in_every_form(encoding: str, form: str) -> None:
    for what, text in TEXTS.items():
        assert kinds(b"before\x00\xff" + FORMS[form](text.encode(encoding)) + b"\x00after") == {what}


@pytest.mark.parametrize("form", FORMS)
def test_the_photo_is_found_in_every_form(form: str) -> None:
    assert kinds(b"before" + FORMS[form](PHOTO) + b"after") == {"photo"}


@pytest.mark.parametrize("cut", [slice(0, 100), slice(450, 580), slice(900, 1024)])
def test_a_part_of_the_photo_is_found(cut: slice) -> None:
    assert kinds(PHOTO[cut]) == {"photo"}


def test_json_escapes_are_found() -> None:
    assert kinds(json.dumps({"who": CITIZEN.name}).encode()) == {"name"}


def test_a_pdf_stream_is_inflated() -> None:
    stream = zlib.compress(b"BT (" + CITIZEN.id_number.encode() + b") Tj ET")
    pdf = b"%PDF-1.4\n1 0 obj <</Filter /FlateDecode>> stream\n" + stream + b"\nendstream endobj"
    assert kinds(pdf) == {"id_number"}


def test_a_png_cut_into_chunks_is_joined_before_it_is_inflated() -> None:
    stream = zlib.compress(bytes(10) + CITIZEN.address.encode() + bytes(10))
    chunks = b"".join(
        len(part).to_bytes(4) + b"IDAT" + part + bytes(4) for part in (stream[:9], stream[9:30], stream[30:])
    )
    assert kinds(b"\x89PNG\r\n\x1a\n" + chunks + bytes(4) + b"IEND" + bytes(4)) == {"address"}


def test_nothing_is_found_where_nothing_is() -> None:
    other = make_citizen(8, 1)
    clean = f"{other.name} {other.id_number} {other.address}".encode() + noise("clean", 200_000)
    assert scan_bytes(clean, WANTED) == []


def test_files_are_searched_with_their_place_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.log").write_text(f"served {CITIZEN.name}")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "a.log")
    findings = scan_files([tmp_path], WANTED)
    assert [(finding.file, finding.offset, finding.what) for finding in findings] == [
        (str(tmp_path / "deep" / "a.log"), 7, "name")
    ]


def test_what_does_not_exist_is_not_clean(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan_files([tmp_path / "absent"], WANTED)


@pytest.mark.parametrize(
    ("texts", "blobs"), [({"name": "李"}, {}), ({}, {"photo": bytes(1024)}), ({}, {"photo": b"WLf\0"})]
)
def test_what_chance_could_make_is_refused(texts: dict[str, str], blobs: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="too "):
        needles(texts, blobs)


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.integers(0, 9))
def test_any_bytes_are_searched_whatever_stands_around(before: bytes, after: bytes, level: int) -> None:
    assert "name" in kinds(before + zlib.compress(CITIZEN.name.encode() * 2, level) + after)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_base64_is_found_at_any_place_in_a_value(before: bytes, after: bytes) -> None:
    assert "address" in kinds(base64.b64encode(before + CITIZEN.address.encode() + after))
