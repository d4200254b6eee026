"""Types for personal data: they print masked, refuse copies by serialisation, and are wiped (rule 1, T20, T22).

Personal data enters the program in drivers, as these types, and leaves it only through `reveal`/`view` at
the three doors: the sealed line, the printer, and the owning UI (masked).
"""

from enum import StrEnum
from typing import NoReturn


class Kind(StrEnum):
    """How a personal text is masked (T22)."""

    NAME = "name"
    IDENTIFIER = "identifier"
    CARD_NUMBER = "card number"
    ADDRESS = "address"
    DATE = "date"
    TELEPHONE = "telephone"
    TEXT = "text"


def mask(text: str, kind: Kind) -> str:
    """Mask `text` as T22 asks: never more than 5 characters shown, never more than half.

    Identifiers and card numbers of 10 characters or more show the first 3 and last 2 (PCI DSS 3.4.1 would allow a card
    number more), of 8 or 9 the first 3 and the last, so that half stays hidden; names the first character; telephone
    numbers of 8 characters or more the last 4; dates, addresses and free text only stars (at most 8).
    """
    if kind is Kind.NAME and len(text) >= 2:
        return text[0] + "*" * (len(text) - 1)
    number = kind in {Kind.IDENTIFIER, Kind.CARD_NUMBER}
    if number and len(text) >= 10:
        return text[:3] + "*" * (len(text) - 5) + text[-2:]
    if number and len(text) >= 8:
        return text[:3] + "*" * (len(text) - 4) + text[-1]
    if kind is Kind.TELEPHONE and len(text) >= 8:
        return "*" * (len(text) - 4) + text[-4:]
    return "*" * min(len(text), 8)


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer on the way; its size stays."""
    buffer[:] = bytes(len(buffer))


class _Wipeable:
    """Owns one buffer; refuses every way of copying it that the owner did not ask for."""

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, value: bytes | bytearray) -> None:
        self._buffer = bytearray(value)
        self._wiped = False

    @property
    def wiped(self) -> bool:
        """Whether the value is gone."""
        return self._wiped

    def wipe(self) -> None:
        """Overwrite the value and drop it; wiping twice is nothing."""
        wipe(self._buffer)
        self._buffer = bytearray()
        self._wiped = True

    def _held(self) -> bytearray:
        """Return the buffer; raise ValueError when it was wiped, so that nothing goes on with an empty value."""
        if self._wiped:
            raise ValueError("this personal value was wiped")
        return self._buffer

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("personal data is not serialised")

    def __copy__(self) -> NoReturn:
        raise TypeError("personal data is not copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("personal data is not copied")

    def __str__(self) -> str:
        return repr(self)


class PersonalText(_Wipeable):
    """A personal text of a known kind."""

    __slots__ = ("kind",)

    def __init__(self, value: str, kind: Kind) -> None:
        super().__init__(value.encode())
        self.kind = kind

    def reveal(self) -> str:
        """Return the clear text, for a door (transport, printer); keep it in no variable that outlives it.

        Raises ValueError when it was wiped.
        """
        return self._held().decode()

    def masked(self) -> str:
        """Return the text masked for a human's eye (T22); raise ValueError when it was wiped."""
        return mask(self.reveal(), self.kind)

    def __repr__(self) -> str:
        return f"<{self.kind} wiped>" if self.wiped else f"<{self.kind} {self.masked()}>"


class PersonalBytes(_Wipeable):
    """Personal bytes: a card's photo block, a biometric record."""

    __slots__ = ()

    def view(self) -> memoryview:
        """Return the bytes in place, without a copy; raise ValueError when they were wiped."""
        return memoryview(self._held())

    def __len__(self) -> int:
        return len(self._buffer)

    def __repr__(self) -> str:
        return f"<personal bytes, {len(self)}>"
