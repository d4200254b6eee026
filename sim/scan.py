"""Searches files for personal data: the name, the ID number, the address and the photo, in every form they could take.

Forms: UTF-8, UTF-16 and UTF-32 in both byte orders (what CPython holds a text in is one of them), GB18030, of which GBK
is a part, and raw bytes, each also as base64 (at all three alignments), as hex (both cases) and as
the escapes that JSON and Python print; streams of zlib (PDF FlateDecode, PNG IDAT) and gzip found inside files are
inflated and searched as well. The photo is searched by three pieces of its block, so that a truncated copy counts too.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ENCODINGS = ("utf-8", "gb18030", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
"""UCS-2 is UTF-16 here: no value has a character beyond the basic plane."""

_DEPTH = 3
_INFLATED_LIMIT = 64 * 1024 * 1024
_SHORTEST = 6
_PIECE = 48
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, repr=False)
class Needle:
    """Bytes that must not be found, what they are and in which form."""

    what: str
    form: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where personal data was found: the file (and streams inside it), the offset, what and in which form."""

    file: str
    offset: int
    what: str
    form: str


def needles(texts: dict[str, str], blobs: dict[str, bytes]) -> list[Needle]:
    """Return what to search for: each text in every encoding, each blob by its pieces, all also base64 and hex.

    Raises ValueError for a value too short, or too plain, to be told from chance.
    """
    wanted: list[Needle] = []
    for what, text in texts.items():
        spellings = {encoding: text.encode(encoding) for encoding in ENCODINGS}
        if min(map(len, spellings.values())) < _SHORTEST:
            raise ValueError(what + ": too short to be searched for")
        wanted.append(Needle(what, "JSON escapes", json.dumps(text)[1:-1].encode()))
        for encoding, data in spellings.items():
            wanted.extend(_forms(what, encoding, data))
    for what, blob in blobs.items():
        for piece in pieces(what, blob):
            wanted.extend(_forms(what, "raw", piece))
    return list({needle.data: needle for needle in reversed(wanted)}.values())


def pieces(what: str, blob: bytes) -> list[bytes]:
    """Return pieces of the beginning, the middle and the end of a blob, so that a part of it is found too.

    Raises ValueError for a blob too plain to be told from chance.
    """
    starts = {0, max(0, (len(blob) - _PIECE) // 2), max(0, len(blob) - _PIECE)}
    telling = [piece for start in sorted(starts) if len(set(piece := blob[start : start + _PIECE])) > 8]
    if not telling:
        raise ValueError(what + ": too plain to be searched for")
    return telling


def _forms(what: str, form: str, data: bytes) -> Iterator[Needle]:
    yield Needle(what, form, data)
    yield Needle(what, f"{form} in Python escapes", repr(data)[2:-1].encode())
    yield Needle(what, f"{form} in hex", data.hex().encode())
    yield Needle(what, f"{form} in HEX", data.hex().upper().encode())
    for alignment in range(3):
        encoded = base64.b64encode(bytes(alignment) + data).rstrip(b"=")
        # The characters at the edges also carry bits of whatever stands beside the value: only the inner ones are ours.
        inner = encoded[(0, 2, 3)[alignment] : len(encoded) - ((alignment + len(data)) % 3 > 0)]
        yield Needle(what, f"{form} in base64 at {alignment}", inner)


def scan_bytes(data: bytes, wanted: list[Needle], file: str = "") -> list[Finding]:
    """Search `data` and every stream inflated from it; `file` names it in the findings."""
    return [
        Finding(place, offset, needle.what, needle.form)
        for place, content in contents(data, file)
        for needle in wanted
        if (offset := content.find(needle.data)) >= 0
    ]


def scan_files(paths: Iterable[Path], wanted: list[Needle]) -> list[Finding]:
    """Search files, and every regular file under directories; symbolic links are not followed.

    A path that does not exist raises FileNotFoundError: what was not searched is not clean.
    """
    findings: list[Finding] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.is_symlink():
                findings.extend(scan_bytes(file.read_bytes(), wanted, str(file)))
    return findings


def contents(data: bytes, place: str, depth: int = _DEPTH) -> Iterator[tuple[str, bytes]]:
    """Give `data` and every stream that can be inflated from it, each with its place."""
    yield place, data
    if depth == 0:
        return
    for offset, inflated in _streams(data):
        yield from contents(inflated, f"{place}@{offset}", depth - 1)
    at = data.find(_PNG)
    while at >= 0:
        yield from contents(_png_data(data, at), f"{place}@{at}:IDAT", depth - 1)
        at = data.find(_PNG, at + 1)


def _streams(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Inflate whatever starts like zlib or gzip, wherever it starts; a damaged stream gives what came before."""
    for mark, bits in ((b"\x78", zlib.MAX_WBITS), (b"\x1f\x8b\x08", 16 + zlib.MAX_WBITS)):
        offset = data.find(mark)
        while offset >= 0:
            starts = bits > zlib.MAX_WBITS or int.from_bytes(data[offset : offset + 2]) % 31 == 0
            if starts and len(inflated := _inflate(memoryview(data)[offset:], bits)) >= _SHORTEST:
                yield offset, inflated
            offset = data.find(mark, offset + 1)


def _inflate(data: memoryview, bits: int) -> bytes:
    inflater = zlib.decompressobj(bits)
    inflated = bytearray()
    for start in range(0, len(data), 256):
        try:
            inflated += inflater.decompress(data[start : start + 256])
        except zlib.error:
            break
        if inflater.eof or len(inflated) > _INFLATED_LIMIT:
            break
    return bytes(inflated)


def _png_data(data: bytes, start: int) -> bytes:
    """Return the IDAT chunks of the PNG at `start`, joined: one stream is cut into several chunks."""
    joined = bytearray()
    at = start + len(_PNG)
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"IDAT":
            joined += data[at + 8 : at + 8 + size]
        if kind == b"IEND":
            break
        at += 12 + size
    return bytes(joined)
