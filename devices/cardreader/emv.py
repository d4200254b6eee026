"""EMV application selection and reading, as far as a payment needs it (protocols 5.3, PBOC 3.0 / EMV Book 1 and 3).

Directory (PSE, PPSE) or the known applications one by one → SELECT → GET PROCESSING OPTIONS → the records that the
application file locator names, until number, expiry and track 2 are there. No cryptogram is asked for: that is the
payment host's and the PIN pad's business.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from devices.cardreader import tlv
from devices.cardreader.chip import Response
from devices.cardreader.tracks import luhn_valid, split_track2, valid_expiry
from devices.errors import DeviceError
from devices.personal import Kind, PersonalBytes, PersonalText

PSE = b"1PAY.SYS.DDF01"
PPSE = b"2PAY.SYS.DDF01"

UNIONPAY = tuple(bytes.fromhex(f"A000000333{product}") for product in ("010101", "010102", "010103", "010106"))
"""UnionPay's applications: debit, credit, quasi-credit, e-cash; an application of the card begins with one of them."""

READ_SECONDS = 5.0
"""From the first directory to the last record (T13)."""

_OK = 0x9000
_CARD_BLOCKED = 0x6A81
_MOST_RECORDS = 30
_MOST_APPLICATIONS = 10

_TERMINAL_DATA = {
    0x9F66: bytes.fromhex("26000080"),  # terminal transaction qualifiers: contactless and contact EMV, online
    0x9F1A: bytes.fromhex("0156"),  # terminal country: China
    0x5F2A: bytes.fromhex("0156"),  # currency: CNY
}
"""What the terminal says of itself when a card asks; everything else it asks for is zeros, the nonce is random."""
_NONCE = 0x9F37


class Chip(Protocol):
    """What exchanges APDUs with a chip that was reset: a card reader."""

    async def transmit(self, command: bytes) -> Response:
        """Return the response to a command; raise DeviceError."""


@dataclass(frozen=True, slots=True, repr=False)
class PaymentCard:
    """What a payment needs of a card's chip. `expiry` reads YYMM, `track2` is the track 2 equivalent data (tag 57)."""

    number: PersonalText
    expiry: PersonalText
    track2: PersonalBytes | None
    application: bytes
    label: str

    def wipe(self) -> None:
        """Overwrite every personal value."""
        for value in (self.number, self.expiry, self.track2):
            if value is not None:
                value.wipe()

    def __repr__(self) -> str:
        return f"<payment card {self.application.hex().upper()}>"


@dataclass(frozen=True, slots=True)
class Application:
    """An application a card offers; a lower `priority` comes first."""

    aid: bytes
    label: str
    priority: int


async def read_payment_card(chip: Chip, *, directory: bytes = PSE) -> PaymentCard:
    """Choose the card's UnionPay application and read number, expiry and track 2 of it, within READ_SECONDS.

    `directory` is PSE over contacts, PPSE over the air. Raises DeviceError: `cardreader.no_application`,
    `cardreader.card_blocked`, `cardreader.bad_card`, `cardreader.bad_number`, `cardreader.chip_slow`, and what the
    chip's reader raises.
    """
    try:
        async with asyncio.timeout(READ_SECONDS):
            offered = await list_applications(chip, directory)
            for application in choose(offered):
                found = await _read_application(chip, application)
                if found is not None:
                    return found
    except TimeoutError:
        raise _error("chip_slow", "the chip takes too long", "insert the card again", retry=True) from None
    except tlv.TlvError as error:
        raise _bad_card(str(error)) from None
    raise _error("no_application", "no UnionPay application", "use another card", retry=False)


async def list_applications(chip: Chip, directory: bytes) -> list[Application]:
    """Return the applications in the card's directory; all of UnionPay's, unproved, when it has none."""
    response = await _select(chip, directory)
    try:
        if response.sw == _CARD_BLOCKED:
            raise _error("card_blocked", "the card is blocked", "use another card", retry=False)
        if response.sw != _OK:
            return [Application(aid, "", 0) for aid in UNIONPAY]
        found = tlv.parse(response.data)
        if directory == PPSE:
            return _entries(found)
        sfi = tlv.find(found, 0x88)
        if sfi is None or len(sfi) != 1 or not 1 <= sfi[0] <= 10:
            raise _bad_card("the directory names no file")
        number = sfi[0]
    finally:
        response.wipe()
    offered: list[Application] = []
    for record in range(1, _MOST_APPLICATIONS + 1):
        response = await chip.transmit(_read_record(number, record))
        try:
            if response.sw != _OK:
                break
            offered += _entries(tlv.parse(response.data))
        finally:
            response.wipe()
    return offered


def choose(offered: list[Application]) -> list[Application]:
    """Return UnionPay's among the offered applications, the card's first choice first (priority 0 means last)."""
    ours = [
        (application.priority or 16, order, application)
        for application in offered
        for order, aid in enumerate(UNIONPAY)
        if application.aid.startswith(aid)
    ]
    return [application for _, _, application in sorted(ours, key=lambda entry: entry[:2])]


def parse_locator(afl: bytes | memoryview) -> list[tuple[int, int]]:
    """Return file and record of everything an application file locator names; raise DeviceError `cardreader.bad_card`.

    Bounded to 30 records, more than any payment card has.
    """
    records: list[tuple[int, int]] = []
    if len(afl) % 4:
        raise _bad_card("the file locator has no whole entries")
    for start in range(0, len(afl), 4):
        sfi, first, last = afl[start] >> 3, afl[start + 1], afl[start + 2]
        if not 1 <= sfi <= 30 or not 1 <= first <= last:
            raise _bad_card("the file locator names no file")
        records += [(sfi, record) for record in range(first, last + 1)]
    if len(records) > _MOST_RECORDS:
        raise _bad_card("the file locator names too many records")
    return records


def answer_options(pdol: bytes | memoryview) -> bytes:
    """Return the data that a card's PDOL asks of the terminal; raise DeviceError `cardreader.bad_card`."""
    answer = b""
    for tag, size in _tags_and_sizes(memoryview(pdol)):
        known = os.urandom(size) if tag == _NONCE else _TERMINAL_DATA.get(tag, b"")
        answer += known[:size].ljust(size, b"\0")
    if len(answer) > 250:
        raise _bad_card("the card asks for too much")
    return answer


async def _read_application(chip: Chip, application: Application) -> PaymentCard | None:
    """Return what the application's records say; None when the card does not open it."""
    response = await _select(chip, application.aid)
    try:
        if response.sw != _OK:
            return None
        found = tlv.parse(response.data)
        name, label = tlv.find(found, 0x84), tlv.find(found, 0x50)
        options = answer_options(tlv.find(found, 0x9F38) or b"")
        aid = bytes(name or application.aid)
        text = _text(label) if label is not None else application.label
    finally:
        response.wipe()
    records = _Records()
    try:
        template = tlv.encode(0x83, options)
        options_command = bytes([0x80, 0xA8, 0x00, 0x00, len(template)]) + template + b"\0"
        locator = await records.take(chip, options_command)
        if locator is None:
            return None
        for sfi, record in parse_locator(locator):
            if not records.complete:
                await records.take(chip, _read_record(sfi, record))
        return records.payment_card(aid, text)
    finally:
        records.wipe()


class _Records:
    """The data objects of a payment, collected from records."""

    def __init__(self) -> None:
        self._values: dict[int, bytearray] = {}

    @property
    def complete(self) -> bool:
        return self._values.keys() >= {0x57, 0x5A, 0x5F24}

    async def take(self, chip: Chip, command: bytes) -> bytes | None:
        """Collect from the response; return its file locator (empty without one), None when the card refuses."""
        response = await chip.transmit(command)
        try:
            if response.sw != _OK:
                return None
            found = tlv.parse(response.data)
            for item in tlv.walk(found):
                if item.tag in {0x57, 0x5A, 0x5F24}:
                    self._values.setdefault(item.tag, bytearray(item.value))
            plain = tlv.find(found, 0x80)
            return bytes(plain[2:] if plain is not None else tlv.find(found, 0x94) or b"")
        finally:
            response.wipe()

    def payment_card(self, aid: bytes, label: str) -> PaymentCard:
        """Return the card; raise DeviceError when what it says is not whole or contradicts itself."""
        track2 = self._values.get(0x57)
        from_track2 = split_track2(track2.hex().upper().rstrip("F")) if track2 is not None else None
        number, expiry = from_track2 or ("", "")
        if 0x5A in self._values:
            number = self._values[0x5A].hex().upper().rstrip("F")
        if 0x5F24 in self._values:
            expiry = self._values[0x5F24].hex()[:4]
        if not luhn_valid(number) or (from_track2 is not None and from_track2[0] != number):
            raise _error("bad_number", "the card number does not check", "use another card", retry=False)
        if not valid_expiry(expiry):
            raise _bad_card("the card has no expiry date")
        return PaymentCard(
            PersonalText(number, Kind.CARD_NUMBER),
            PersonalText(expiry, Kind.DATE),
            PersonalBytes(track2) if track2 is not None else None,
            aid,
            label,
        )

    def wipe(self) -> None:
        for value in self._values.values():
            value[:] = bytes(len(value))


def _entries(found: tuple[tlv.Tlv, ...]) -> list[Application]:
    """Return the applications that the directory entries (61) name."""
    entries: list[Application] = []
    for item in tlv.walk(found):
        if item.tag != 0x61:
            continue
        aid, label, priority = (tlv.find(item.parts, tag) for tag in (0x4F, 0x50, 0x87))
        if aid is not None and 5 <= len(aid) <= 16:
            entries.append(Application(bytes(aid), _text(label or b""), priority[0] & 0x0F if priority else 0))
    return entries[:_MOST_APPLICATIONS]


def _tags_and_sizes(pdol: memoryview) -> Iterator[tuple[int, int]]:
    """Yield what a data object list asks for."""
    at = 0
    while at < len(pdol):
        tag, at = tlv.read_tag(pdol, at)
        if at >= len(pdol):
            raise tlv.TlvError("a data object list ends in a tag")
        yield tag, pdol[at]
        at += 1


def _text(value: bytes | memoryview) -> str:
    return "".join(chr(byte) for byte in value[:16] if 0x20 <= byte < 0x7F).strip()


async def _select(chip: Chip, name: bytes) -> Response:
    return await chip.transmit(bytes([0x00, 0xA4, 0x04, 0x00, len(name)]) + name + b"\0")


def _read_record(sfi: int, record: int) -> bytes:
    return bytes([0x00, 0xB2, record, sfi << 3 | 4, 0x00])


def _error(code: str, message: str, advice: str, *, retry: bool) -> DeviceError:
    return DeviceError(f"cardreader.{code}", message, advice=advice, retry=retry)


def _bad_card(what: str) -> DeviceError:
    return _error("bad_card", what, "insert the card again; a card that keeps this is damaged", retry=True)
