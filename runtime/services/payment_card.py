"""The counter for bank cards: read the card, let its holder enter the PIN, charge (T5, T6, T10).

The card's data and the encrypted PIN block live for one charge and are wiped after it; the card is handed back however
that ends. A card with a chip is read by its chip alone.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

from devices.cardreader import tlv
from devices.cardreader.chip import Atr, ChipPower, Response
from devices.cardreader.emv import READ_SECONDS, read_payment_card
from devices.cardreader.tracks import Tracks
from devices.errors import DeviceError
from devices.personal import Kind, PersonalBytes, PersonalText
from devices.pinpad.driver import PinBlock
from devices.pinpad.protocol import PinKey
from devices.status import DeviceStatus
from runtime.messages.payment import CardCharge, PaymentStanding, PinKeyIssue, PinKeyRequest
from runtime.services.payment_held import HeldPayment
from runtime.services.payment_till import UNSURE_SECONDS, Till, Unsure
from runtime.services.steps import Refused, Transaction

CARD_SECONDS = 8.0
"""The machine's part of taking a card in and reading it, by its chip and then by its stripe."""
KEY_SECONDS = 3.0
"""The PIN pad's part of loading a key."""
BLOCK_SECONDS = 4.0
"""The PIN pad's part of an entry: its limits before, the block after."""

_APPLICATION = 0x4F
_NO_CHIP = {"cardreader.chip_mute", "cardreader.unsupported"}
_WITH_CHIP = ("2", "6")
"""First digit of the service code on the stripe of a card with a chip (ISO/IEC 7813)."""

PinKeyListener = Callable[[PinKey], None]
"""Told each key of a PIN entry; a digit is a star."""


class Reader(Protocol):
    """The bank-card reader as this counter sees it; every method raises DeviceError."""

    def card(self, *, wait_seconds: float | None = None) -> AbstractAsyncContextManager[None]:
        """Let one card in; after the block it is on its way out, however the block ends."""

    async def power(self, how: ChipPower) -> Atr | None:
        """Reset the chip."""

    async def transmit(self, command: bytes) -> Response:
        """Exchange an APDU."""

    async def read_tracks(self) -> Tracks:
        """Read the stripe."""


class Pad(Protocol):
    """The PIN pad as this counter sees it; every method raises DeviceError."""

    status: DeviceStatus

    async def load_working_key(self, slot: int, wrapped_key: bytes, kcv: bytes) -> None:
        """Load a working key."""

    async def enter_pin(self, pan12: PersonalText, on_key: PinKeyListener) -> PinBlock:
        """Let the citizen enter a PIN and return it encrypted."""


@dataclass(frozen=True, slots=True, repr=False)
class _Card:
    """What a charge needs of a card."""

    pan12: PersonalText
    track2: PersonalBytes
    emv: bytes

    def wipe(self) -> None:
        self.pan12.wipe()
        self.track2.wipe()


@dataclass(frozen=True, slots=True)
class CardCounter:
    """Charges orders to bank cards."""

    till: Till
    reader: Reader
    pad: Pad
    algorithm: Literal["sm4", "3des"]
    pin_slot: int
    card_wait_seconds: float
    entry_seconds: float

    async def charge(
        self, transaction: Transaction, held: HeldPayment, guide: Callable[[str], None], on_key: PinKeyListener
    ) -> PaymentStanding | None:
        """Return how the order stands after the charge, None when nobody knows; raise Refused when surely not charged.

        The card is on its way out when this returns or raises, also by cancellation.
        """
        await self._load_key(transaction)
        has_card = False
        try:
            async with AsyncExitStack() as hands:
                guide("payment.insert_card")
                deadline = self.card_wait_seconds + CARD_SECONDS + READ_SECONDS
                async with transaction.step("read_card", deadline_seconds=deadline, no_answer="cardreader.no_answer"):
                    async with held.interruptible():
                        await hands.enter_async_context(self.reader.card(wait_seconds=self.card_wait_seconds))
                    has_card = True
                    card = await self._read()
                    hands.callback(card.wipe)
                deadline = self.entry_seconds + BLOCK_SECONDS
                async with transaction.step("enter_pin", deadline_seconds=deadline, no_answer="pinpad.timeout"):
                    guide("payment.enter_pin")
                    async with held.interruptible():
                        block = await self.pad.enter_pin(card.pan12, on_key)
                    hands.callback(block.wipe)
                return await self._charge(transaction, held, card, block)
        finally:
            if has_card:
                guide("payment.take_card")

    async def _load_key(self, transaction: Transaction) -> None:
        """Give the pad a PIN key of the platform's, a new one for each charge."""
        deadline = KEY_SECONDS + self.till.office.answer_seconds
        async with transaction.step("load_pin_key", deadline_seconds=deadline, no_answer="pinpad.no_answer"):
            request = PinKeyRequest(self.pad.status.identity or "", self.algorithm)
            issue = await self.till.office.ask(request, PinKeyIssue, key=secrets.token_bytes(16))
            try:
                if issue.pad != request.pad:
                    raise ValueError("another pad's key")
                await self.pad.load_working_key(self.pin_slot, issue.wrapped, issue.check_value)
            except ValueError as error:
                raise Refused("pinpad.bad_key", str(error), retry=False) from None

    async def _charge(
        self, transaction: Transaction, held: HeldPayment, card: _Card, block: PinBlock
    ) -> PaymentStanding | None:
        """Ask for the charge. From before that on its result is waited for, unless it surely did not take place."""
        deadline = self.till.office.answer_seconds + 1.0
        try:
            async with transaction.step("charge_card", deadline_seconds=deadline, no_answer="platform.no_answer"):
                with card.track2.view() as track2, block.view() as pin_block:
                    message = CardCharge(held.order, bytes(track2), card.emv, bytes(pin_block))
                held.waits_until = asyncio.get_running_loop().time() + UNSURE_SECONDS
                try:
                    return await self.till.ask(message, held.order, key=secrets.token_bytes(16))
                except Unsure:
                    raise
                except Refused:
                    held.waits_until = None
                    raise
        except Refused:
            if held.waits_until is None:
                raise
        return None

    async def _read(self) -> _Card:
        """Read the card in use, by its chip, or by its stripe where it has none."""
        try:
            await self.reader.power(ChipPower.COLD)
        except DeviceError as error:
            if error.code not in _NO_CHIP:
                raise
            return await self._read_stripe(error)
        found = await read_payment_card(self.reader)
        try:
            if found.track2 is None:
                raise Refused("cardreader.bad_card", "the chip has no track 2 data", retry=False)
            with found.track2.view() as track2:
                return _Card(
                    _pan12(found.number), PersonalBytes(bytearray(track2)), tlv.encode(_APPLICATION, found.application)
                )
        finally:
            found.wipe()

    async def _read_stripe(self, no_chip: DeviceError) -> _Card:
        """Read the stripe; raise `no_chip` where that says that the card has a chip."""
        tracks = await self.reader.read_tracks()
        try:
            if tracks.number is None or tracks.track2 is None:
                raise Refused("cardreader.bad_card", "the stripe cannot be read", retry=True)
            with tracks.track2.view() as track2:
                _, _, rest = bytes(track2).partition(b"=")
                if rest[4:5].decode("ascii", "replace") in _WITH_CHIP:
                    raise no_chip
                return _Card(_pan12(tracks.number), PersonalBytes(bytearray(track2)), b"")
        finally:
            tracks.wipe()


def _pan12(number: PersonalText) -> PersonalText:
    """Return the 12 rightmost digits of a card number without its check digit."""
    return PersonalText(number.reveal()[-13:-1].rjust(12, "0"), Kind.CARD_NUMBER)
