"""The search that proves T20: it finds what is planted, in every form and place, and nothing else."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.people import make_citizen
from sim.privacy import memory, planted
from sim.privacy.finder import Finder, Likeness
from sim.privacy.visit import CITIZEN
from sim.scan import ENCODINGS, Needle, needles
from vision.models import Floats

WHO = make_citizen(CITIZEN, 1)
PHOTO = hashlib.shake_128(b"photo").digest(1_024)
KNOWN = Finder(planted.known_before(WHO, PHOTO))
ABSENT = Finder([Needle("absent", "raw", hashlib.shake_128(b"absent").digest(48))])


def kinds(data: bytes, finder: Finder = KNOWN) -> set[str]:
    return {what for _, what, _ in finder.find(data)}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("at", range(5))
def test_a_text_is_found_in_every_encoding_at_every_alignment(encoding: str, at: int) -> None:
    """UTF-8, UCS-2 and UCS-4 as CPython and the wires hold it, GB18030."""
    for text, what in ((WHO.name, "name"), (WHO.id_number, "ID number"), (WHO.address, "address")):
        assert what in kinds(bytes(at) + text.encode(encoding))
        assert what in kinds(bytes(at) + text.encode(encoding).hex().encode() + b"\0")


def test_a_card_number_is_found_as_text_as_digits_in_halves_and_without_its_ends() -> None:
    assert "card number" in kinds(b"\x57\x13" + bytes.fromhex(planted.NUMBER) + b"\xd3\x01")
    assert {"card number", "account", "track 2"} <= kinds(f";{planted.NUMBER}=30122200?".encode())
    assert kinds(f"pan12 {planted.NUMBER[3:15]}".encode()) == {"account"}


def test_nothing_is_found_where_nothing_is() -> None:
    other = make_citizen(CITIZEN + 1, 1)
    clean = f"{other.name} {other.id_number} {other.address}".encode() + hashlib.shake_128(b"clean").digest(1 << 20)
    assert list(KNOWN.find(clean)) == []
    assert list(KNOWN.find(b"")) == []


@given(before=st.binary(max_size=70), after=st.binary(max_size=70))
def test_it_finds_what_a_plain_search_finds(before: bytes, after: bytes) -> None:
    """The fast search and `bytes.find` agree, whatever stands around."""
    data = before + WHO.id_number.encode() + after
    expected = {needle.what for needle in KNOWN.needles if needle.data in data}
    assert kinds(data) == expected


def test_a_template_is_found_by_likeness_and_noise_is_not() -> None:
    """Other numbers of the same face: a cosine of 0.8 to what is known."""
    source = np.random.default_rng(1)
    template, other = (unit(source.normal(size=128)) for _ in range(2))
    alike = unit(0.8 * template + 0.6 * unit(other - template * float(other @ template)))
    finder = Finder([], Likeness(template))
    noise = source.normal(size=100_000).astype(np.float32).tobytes()
    assert list(finder.find(noise)) == []
    for vector in (template, alike, 7 * alike, -alike):
        found = list(finder.find(noise[:4_000] + vector.astype(np.float32).tobytes() + noise[:4_000]))
        assert [(place, what) for place, what, _ in found] == [(4_000, "template")]


def unit(vector: NDArray[np.float64]) -> Floats:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@contextmanager
def holding(expression: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds a value in `held` and waits for the end of its input."""
    program = f"import sys\nheld = {expression}\nprint('ready', flush=True)\nsys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


@pytest.mark.parametrize(
    "expression",
    [
        "bytes(5_000_000) + bytes.fromhex('{}')",
        "bytearray.fromhex('{}')",
        "bytes.fromhex('{}').decode('utf-8')",
        "__import__('mmap').mmap(-1, 1 << 20); held.seek(4090); held.write(bytes.fromhex('{}'))",
        "__import__('mmap').mmap(-1, 1 << 20, flags=2, prot=3); held.write(bytes.fromhex('{}'))",
    ],
)
def test_all_memory_of_a_process_is_read(expression: str) -> None:
    """Heap, large blocks, texts, shared and private mappings, across pages."""
    text = "测试用户望鹤楼巷816号"
    with holding(expression.format(text.encode().hex())) as process:
        hits = memory.search(memory.read(process.pid), Finder(needles({"text": text}, {})))
        assert {hit.what for hit in hits} == {"text"}
        assert memory.search(memory.read(process.pid), ABSENT) == []
