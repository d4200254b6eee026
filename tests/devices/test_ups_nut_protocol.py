"""The NUT network codec against the lines of its document, and against any bytes (T14)."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.driver import Damage
from devices.ups.nut_protocol import (
    LONGEST,
    MOST_VARIABLES,
    Address,
    Listing,
    Words,
    WordsDecoder,
    encode_line,
    encode_listing,
    error_of,
    parse_address,
)

GOLDEN = [
    (what, line, tuple(words.split("\t")))
    for what, line, words in (
        row.split(" | ")
        for row in (Path(__file__).parents[1] / "vectors" / "ups_nut.txt").read_text().splitlines()
        if not row.startswith("#")
    )
]
WORD = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=20)


def decode(*chunks: bytes) -> list[Words | Damage]:
    decoder = WordsDecoder()
    return [found for chunk in chunks for found in decoder.feed(chunk)]


def gather(data: bytes, ups: str = "kiosk") -> tuple[Listing, bool]:
    listing = Listing(ups)
    ended = False
    for found in decode(data):
        assert not isinstance(found, Damage)
        ended = ended or listing.take(found)
    return listing, ended


@pytest.mark.parametrize(("what", "line", "words"), GOLDEN, ids=[line for _, line, _ in GOLDEN])
def test_golden_lines(what: str, line: str, words: Words) -> None:
    assert decode(line.encode() + b"\n") == [words]
    if what == "request":
        assert encode_line(*words) == line.encode() + b"\n"


def test_errors_have_names() -> None:
    assert error_of(("ERR", "DATA-STALE")) == "DATA-STALE"
    assert error_of(("ERR",)) == "UNKNOWN"
    assert error_of(("OK", "ERR")) is None


@given(st.lists(WORD, min_size=1, max_size=5))
@settings(max_examples=200)
def test_words_go_there_and_back(words: list[str]) -> None:
    assert decode(encode_line(*words)) == [tuple(words)]


@pytest.mark.parametrize("word", ["a\nFSD kiosk", "a\r", "a\0"], ids=repr)
def test_a_word_cannot_end_its_line(word: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        encode_line("PASSWORD", word)


@given(
    st.lists(st.sampled_from([b"OK\n", b'VAR kiosk a "b c"\r\n', b'"', b"\\", b"\n", b"\xff", b"x" * 700]), max_size=9)
)
@settings(max_examples=200)
def test_chunks_make_no_difference(parts: list[bytes]) -> None:
    wire = b"".join(parts)
    one_by_one = [wire[start:end] for start, end in pairwise(range(len(wire) + 1))]
    assert list(map(repr, decode(*one_by_one))) == list(map(repr, decode(wire)))


@given(st.lists(st.binary(max_size=3000), max_size=6))
@settings(max_examples=200)
def test_any_bytes_in_bounded_memory(chunks: list[bytes]) -> None:
    decoder = WordsDecoder()
    for chunk in chunks:
        decoder.feed(chunk)
        assert decoder.pending <= LONGEST
    decoder.feed(b"\n")
    assert decoder.feed(b"OK\n") == [("OK",)]


def test_a_line_that_does_not_end_is_one_damage() -> None:
    damage, words = decode(*[b"x" * 5000] * 20, b"\nOK\n")
    assert isinstance(damage, Damage)
    assert words == ("OK",)


def test_a_listing() -> None:
    variables = {"ups.status": "OL CHRG", "ups.model": 'a "b" \\'}
    listing, ended = gather(b"OK\n" + encode_listing("kiosk", variables))
    assert ended
    assert listing.variables == variables
    listing, ended = gather(b"ERR DATA-STALE\n")
    assert ended
    assert listing.error == "DATA-STALE"


def test_a_listing_of_another_ups_and_one_cut_short() -> None:
    whole = encode_listing("kiosk", {"ups.status": "OL"})
    assert not gather(whole, ups="other")[1]
    assert not gather(whole[: whole.rindex(b"END")])[1]
    assert not gather(whole[whole.index(b"\n") + 1 :])[1], "a half of an earlier answer"


def test_a_listing_without_end_is_bounded() -> None:
    listing, ended = gather(encode_listing("kiosk", {f"a{n}": "b" for n in range(MOST_VARIABLES + 1)}))
    assert ended
    assert len(listing.variables) == MOST_VARIABLES + 1


@pytest.mark.parametrize(
    ("url", "address", "link"),
    [
        ("nut://mon@127.0.0.1:13493/kiosk", Address("127.0.0.1", 13493, "mon", "kiosk"), "tcp://127.0.0.1:13493"),
        ("nut://localhost/kiosk", Address("localhost", 3493, None, "kiosk"), "tcp://localhost:3493"),
        ("nut://mon@[::1]:1/a", Address("::1", 1, "mon", "a"), "tcp://[::1]:1"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_addresses(url: str, address: Address, link: str) -> None:
    assert parse_address(url) == address
    assert address.link == link


@pytest.mark.parametrize(
    "url",
    [
        *("nut:", "nut://", "nut://host", "nut://host/", "nut://host/a/b", "nut://u:secret@host/a", "tcp://host/a"),
        *("nut://host:port/a", "nut://host:99999/a", "nut://host/a?b", "nut://[::1/a"),
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - any reason will do, but no password in it
        parse_address(url)
    assert "secret" not in str(caught.value)
