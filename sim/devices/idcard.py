"""The rig's ID-card reader: the other half of the SAM-V conversation (protocols 1)."""

import base64

from devices.idcard.protocol import (
    PHOTO_BYTES,
    SHORTEST_REQUEST,
    Command,
    Damage,
    FrameDecoder,
    Status,
    encode_reply,
    join_card,
)
from devices.idcard.record import CitizenText, check_digit, encode_text_block
from sim.wire import Verbs

SAM_ID = bytes.fromhex("05 00 01 00 65 9E 33 01 87 D6 12 00 B1 68 DE 3A")
"""05.01-20160101-0001234567-0987654321, the example of protocols 1.4."""

_ID_NUMBER = slice(122, 158)


class VirtualIdCardReader:
    """A reader and the card on it. It answers only what it is asked; after a complete read it does not find the
    card again until it was lifted or the field was cycled, as most modules do (protocols 1.9).
    """

    def __init__(self) -> None:
        self.authorised = True
        self.reads = 0
        self._decoder = FrameDecoder(shortest=SHORTEST_REQUEST)
        self._card: bytearray | None = None
        self._photo = b""
        self._found = self._selected = self._finished = False
        self._leaving = self._hanging = False

    @property
    def verbs(self) -> Verbs:
        """What a hand can do at the reader."""
        return {
            "place_card": self.place_card,
            "remove_card": self.remove_card,
            "leave_mid_read": self.leave_mid_read,
            "hang_card": self.hang_card,
            "bad_check_digit": self.bad_check_digit,
            "authorise": self.authorise,
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
        """Lay down a card with these fields as they are written on it; `photo` is 1,024 bytes, or them in base64.

        `flag` is the card's variant (space, J, I or Y). Raises ValueError when something does not fit a card.
        """
        block = base64.b64decode(photo, validate=True) if isinstance(photo, str) else photo
        if len(block) != PHOTO_BYTES:
            raise ValueError(f"a photo block has {PHOTO_BYTES} bytes, not {len(block)}")
        text = CitizenText(name, sex, nation, birth, address, id_number, issuer, valid_from, valid_to)
        card = bytearray(encode_text_block(text, flag=flag))
        self.remove_card()
        self._card, self._photo = card, block

    def remove_card(self) -> None:
        """Lift the card; without a card it is nothing."""
        self._card, self._photo = None, b""
        self._found = self._selected = self._finished = self._leaving = self._hanging = False

    def leave_mid_read(self) -> None:
        """Let the card leave while it is read the next time."""
        self._leaving = True

    def hang_card(self) -> None:
        """Let the card hang when it is selected, until the field is cycled (protocols 1.9)."""
        self._hanging = True

    def bad_check_digit(self) -> None:
        """Give the card's ID number a wrong check digit; raise ValueError when there is no card."""
        if self._card is None:
            raise ValueError("there is no card")
        number = self._card[_ID_NUMBER].decode("utf-16-le")
        wrong = "1" if check_digit(number[:17]) == "0" else "0"
        self._card[_ID_NUMBER] = (number[:17] + wrong).encode("utf-16-le")

    def authorise(self, *, authorised: bool = True) -> None:
        """Give or take the security module's authorisation; without it every command ends with SW3 66."""
        self.authorised = authorised

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the replies."""
        return b"".join(map(self._reply, self._decoder.feed(data)))

    def _reply(self, found: bytearray | Damage) -> bytes:
        if isinstance(found, Damage):
            return encode_reply(Status.BAD_CHECKSUM if found is Damage.CHECKSUM else Status.BAD_LENGTH)
        if not self.authorised:
            return encode_reply(Status.SAM_NOT_AUTHORISED)
        command = int.from_bytes(found, "big")
        answer = {
            Command.STATUS: self._ok,
            Command.SAM_ID: self._sam_id,
            Command.RESET: self._reset,
            Command.FIND: self._find,
            Command.SELECT: self._select,
            Command.READ: self._read,
        }
        return answer[Command(command)]() if command in answer else encode_reply(Status.BAD_COMMAND)

    def _ok(self) -> bytes:
        return encode_reply(Status.OK)

    def _sam_id(self) -> bytes:
        return encode_reply(Status.OK, SAM_ID)

    def _reset(self) -> bytes:
        self._found = self._selected = self._finished = self._hanging = False
        return encode_reply(Status.OK)

    def _find(self) -> bytes:
        self._selected = False
        self._found = self._card is not None and not self._finished
        return encode_reply(Status.FOUND, bytes(4)) if self._found else encode_reply(Status.NO_CARD)

    def _select(self) -> bytes:
        if self._found and self._hanging:
            return b""
        self._selected = self._found
        return encode_reply(Status.OK, bytes(8)) if self._selected else encode_reply(Status.SELECT_FAILED)

    def _read(self) -> bytes:
        if self._leaving:
            self.remove_card()
        if self._card is None or not self._selected:
            return encode_reply(Status.READ_FAILED)
        self._selected = self._found = False
        self._finished = True
        self.reads += 1
        return encode_reply(Status.OK, join_card(bytes(self._card), self._photo))
