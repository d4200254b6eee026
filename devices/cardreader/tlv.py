"""BER-TLV as chips write it (ISO/IEC 7816-4, EMV Book 3 annex B): total on any bytes, bounded in size and depth."""

from collections.abc import Iterator
from typing import NamedTuple

MOST_OBJECTS = 256
DEEPEST = 8
_CONSTRUCTED = 0x20


class TlvError(ValueError):
    """The bytes are no BER-TLV, or more than a card says."""


class Tlv(NamedTuple):
    """One data object; a constructed one has `parts`. The value is a view of what was parsed, never a copy."""

    tag: int
    value: memoryview
    parts: "tuple[Tlv, ...]" = ()

    def __repr__(self) -> str:
        return f"<tlv {self.tag:X}, {len(self.value)} bytes>"


def parse(data: bytes | bytearray | memoryview) -> tuple[Tlv, ...]:
    """Return the data objects in `data`, in order; raise TlvError when they are malformed or too many.

    Zero bytes between objects are padding. Lengths have at most two bytes, tags at most three.
    """
    budget = iter(range(MOST_OBJECTS))
    return _parse(memoryview(data), DEEPEST, budget)


def walk(objects: tuple[Tlv, ...]) -> Iterator[Tlv]:
    """Yield every data object at every depth, in order."""
    for item in objects:
        yield item
        yield from walk(item.parts)


def find(objects: tuple[Tlv, ...], tag: int) -> memoryview | None:
    """Return the value of the first object with this tag, at any depth; None when there is none."""
    return next((item.value for item in walk(objects) if item.tag == tag), None)


def encode(tag: int, value: bytes) -> bytes:
    """Return one data object."""
    size = len(value)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + length + value


def _parse(data: memoryview, depth: int, budget: Iterator[int]) -> tuple[Tlv, ...]:
    objects: list[Tlv] = []
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        if depth == 0 or next(budget, None) is None:
            raise TlvError("more data objects than a card has")
        constructed = bool(data[at] & _CONSTRUCTED)
        tag, at = read_tag(data, at)
        size, at = _length(data, at)
        if size > len(data) - at:
            raise TlvError("an object is longer than its container")
        value = data[at : at + size]
        objects.append(Tlv(tag, value, _parse(value, depth - 1, budget) if constructed else ()))
        at += size
    return tuple(objects)


def read_tag(data: memoryview, at: int) -> tuple[int, int]:
    """Return the tag at `at` and where it ends."""
    end = at + 1
    if data[at] & 0x1F == 0x1F:
        while end < len(data) and data[end] & 0x80:
            end += 1
        end += 1
    if end > len(data) or end - at > 3:
        raise TlvError("a tag has no end")
    return int.from_bytes(data[at:end], "big"), end


def _length(data: memoryview, at: int) -> tuple[int, int]:
    """Return the length at `at` and where it ends."""
    if at >= len(data):
        raise TlvError("an object has no length")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    end = at + 1 + (first & 0x7F)
    if first not in {0x81, 0x82} or end > len(data):
        raise TlvError("a length that no card uses")
    return int.from_bytes(data[at + 1 : end], "big"), end
