"""The rig's ID-card reader: the other half of the SAM-V conversation (protocols 1)."""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from devices.driver import Damage
from devices.idcard.fingers import MOST_RECORDS, make_record
from devices.idcard.layout import CardText, CitizenText, Foreigner2017Text, Variant, encode_text_block
from devices.idcard.numbers import check_digit
from devices.idcard.protocol import (
    ADDRESS_BYTES,
    MANAGEMENT_BYTES,
    MOST_ADDRESSES,
    PHOTO_BYTES,
    SHORTEST_REQUEST,
    BadChecksum,
    Command,
    FrameDecoder,
    Status,
    encode_reply,
    join_card,
)
from sim.devices.permits import make_permit
from sim.wire import Verbs

SAM_ID = bytes.fromhex("05 00 01 00 65 9E 33 01 87 D6 12 00 B1 68 DE 3A")
"""05.01-20160101-0001234567-0987654321, the example of protocols 1.4."""
OTHER_SAM_ID = SAM_ID[:-1] + bytes([SAM_ID[-1] ^ 1])
"""Of another reader of the same make."""
MANAGEMENT = bytes(range(1, MANAGEMENT_BYTES + 1))
_NO_FACE = b"WLf\0".ljust(PHOTO_BYTES, b"\0")
"""The photo block of protocols 1.5, which shows nobody."""
EXCHANGE_LOOKS = 3
"""How often the reader finds nothing while a hand puts one card in the place of another."""
_KNOWN = frozenset(Command)
_NEWER = frozenset({Command.ADDRESS, Command.MANAGEMENT, Command.READ_FINGERS})


@dataclass(slots=True)
class _Card:
    text: CardText
    flag: str
    photo: bytes
    addresses: bytes = b""
    fingers: bytes = b""


class VirtualIdCardReader:
    """A reader and the card on it. It answers only what it is asked; after a complete read it does not find the
    card again until it was lifted or the field was cycled, as most modules do (protocols 1.9).
    """

    def __init__(self) -> None:
        self.authorised = True
        self.reads = 0
        self._decoder = FrameDecoder(shortest=SHORTEST_REQUEST)
        self._card: _Card | None = None
        self._photo = _NO_FACE
        self._found = self._selected = self._finished = False
        self._leaving = self._hanging = False
        self._old = False
        self._other = False
        self._looks_without = 0

    @property
    def verbs(self) -> Verbs:
        """What a hand can do at the reader."""
        return {
            "place_card": self.place_card,
            "place_permit": self.place_permit,
            "remove_card": self.remove_card,
            "new_address": self.new_address,
            "store_fingers": self.store_fingers,
            "leave_mid_read": self.leave_mid_read,
            "hang_card": self.hang_card,
            "bad_check_digit": self.bad_check_digit,
            "authorise": self.authorise,
            "old_firmware": self.old_firmware,
            "exchange": self.exchange,
        }

    def place_card(
        self,
        *,
        name: str,
        sex: str,
        nation: str,
        birth: str,
        address: str,
        id_number: str,
        issuer: str,
        valid_from: str,
        valid_to: str,
        photo: bytes | str,
        flag: str = " ",
    ) -> None:
        """Lay down a citizen's card with these fields as they are written on it.

        `photo` is 1,024 bytes, or them in base64; `flag` tells the kind of card. Raises ValueError when something does
        not fit a card.
        """
        text = CitizenText(name, sex, nation, birth, address, id_number, issuer, valid_from, valid_to)
        self._place(text, flag, photo)

    def place_permit(self, *, variant: str, holder: int = 0, photo: bytes | str | None = None, **fields: str) -> None:
        """Lay down the permit of a made-up holder; any field of `devices.idcard.layout` can be given instead.

        `variant` is `hk_macao_taiwan`, `foreigner_2017` or `foreigner_2023`; `photo` as for `place_card`, by default
        that of the card before. Raises ValueError when something does not fit the permit.
        """
        made_up = make_permit(Variant(variant), holder)
        text = type(made_up)(**(asdict(made_up) | fields))
        self._place(text, text.flag, self._photo if photo is None else photo)

    def remove_card(self) -> None:
        """Lift the card; without a card it is nothing."""
        self._card = None
        self._found = self._selected = self._finished = self._leaving = self._hanging = False

    def new_address(self, address: str, *, older: Sequence[str] = ()) -> None:
        """Write a newer address into the card, behind `older` ones; raise ValueError when they do not fit."""
        written = [entry.encode("utf-16-le") for entry in (*older, address)]
        if len(written) > MOST_ADDRESSES or max(map(len, written)) > ADDRESS_BYTES:
            raise ValueError(f"a card has {MOST_ADDRESSES} addresses of {ADDRESS_BYTES // 2} characters")
        padded = (entry + b" \0" * ((ADDRESS_BYTES - len(entry)) // 2) for entry in written)
        self._lying.addresses = b"".join(padded)

    def store_fingers(self, positions: Sequence[int] = (11, 16), *, features: str = "") -> None:
        """Write fingerprint records into the card, at most two, with these features (hexadecimal) in each.

        Raises ValueError when they do not fit.
        """
        if len(positions) > MOST_RECORDS:
            raise ValueError(f"a card has at most {MOST_RECORDS} fingers")
        self._lying.fingers = b"".join(make_record(position, bytes.fromhex(features)) for position in positions)

    def leave_mid_read(self) -> None:
        """Let the card leave while it is read the next time."""
        self._leaving = True

    def hang_card(self) -> None:
        """Let the card hang when it is selected, until the field is cycled (protocols 1.9)."""
        self._hanging = True

    def bad_check_digit(self) -> None:
        """Give the card's number a wrong check digit; raise ValueError when there is no card, or none in its number."""
        card = self._lying
        if isinstance(card.text, Foreigner2017Text):
            raise ValueError("this number has no check digit")
        number = card.text.id_number
        wrong = "1" if check_digit(number[:17]) == "0" else "0"
        card.text = replace(card.text, id_number=number[:17] + wrong)

    def authorise(self, *, authorised: bool = True) -> None:
        """Give or take the security module's authorisation; without it every command ends with SW3 66."""
        self.authorised = authorised

    def old_firmware(self, *, old: bool = True) -> None:
        """Let the reader know neither newest address, management record nor fingerprints, or know them again."""
        self._old = old

    def exchange(self) -> None:
        """Put another reader of the same make in its place, or the first one back; unplug it before, plug it after."""
        self._other = not self._other

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the replies."""
        return b"".join(map(self._reply, self._decoder.feed(data)))

    @property
    def _lying(self) -> _Card:
        if self._card is None:
            raise ValueError("there is no card")
        return self._card

    def _place(self, text: CardText, flag: str, photo: bytes | str) -> None:
        block = base64.b64decode(photo, validate=True) if isinstance(photo, str) else photo
        if len(block) != PHOTO_BYTES:
            raise ValueError(f"a photo block has {PHOTO_BYTES} bytes, not {len(block)}")
        encode_text_block(text, flag=flag)
        self._looks_without = EXCHANGE_LOOKS if self._card is not None else 0
        self.remove_card()
        self._card, self._photo = _Card(text, flag, block), block

    def _reply(self, found: bytearray | Damage) -> bytes:
        if isinstance(found, Damage):
            return encode_reply(Status.BAD_CHECKSUM if isinstance(found, BadChecksum) else Status.BAD_LENGTH)
        if not self.authorised:
            return encode_reply(Status.SAM_NOT_AUTHORISED)
        command = int.from_bytes(found, "big")
        if command in _KNOWN and not (self._old and command in _NEWER):
            return self._obey(Command(command))
        return encode_reply(Status.BAD_COMMAND)

    def _obey(self, command: Command) -> bytes:
        match command:
            case Command.STATUS:
                return encode_reply(Status.OK)
            case Command.SAM_ID:
                return encode_reply(Status.OK, OTHER_SAM_ID if self._other else SAM_ID)
            case Command.RESET:
                return self._reset()
            case Command.FIND:
                return self._find()
            case Command.SELECT:
                return self._select()
            case Command.ADDRESS | Command.MANAGEMENT | Command.READ | Command.READ_FINGERS:
                return self._read(command)

    def _reset(self) -> bytes:
        self._found = self._selected = self._finished = self._hanging = False
        return encode_reply(Status.OK)

    def _find(self) -> bytes:
        self._selected = False
        self._looks_without, is_exchanged = max(0, self._looks_without - 1), self._looks_without > 0
        self._found = self._card is not None and not self._finished and not is_exchanged
        return encode_reply(Status.FOUND, bytes(4)) if self._found else encode_reply(Status.NO_CARD)

    def _select(self) -> bytes:
        if self._found and self._hanging:
            return b""
        self._selected = self._found
        return encode_reply(Status.OK, bytes(8)) if self._selected else encode_reply(Status.SELECT_FAILED)

    def _read(self, command: Command) -> bytes:
        """Read something of the selected card; text and photo end its selection, so nothing is read after them."""
        if self._leaving and command in {Command.READ, Command.READ_FINGERS}:
            self.remove_card()
        card = self._card
        if card is None or not self._selected:
            return encode_reply(Status.READ_FAILED)
        if command is Command.ADDRESS:
            return encode_reply(Status.OK, card.addresses) if card.addresses else encode_reply(Status.NO_CONTENT)
        if command is Command.MANAGEMENT:
            return encode_reply(Status.OK, MANAGEMENT)
        self._selected = self._found = False
        self._finished = True
        self.reads += 1
        text = encode_text_block(card.text, flag=card.flag)
        fingers = card.fingers if command is Command.READ_FINGERS else None
        return encode_reply(Status.OK, join_card(text, card.photo, fingers))
