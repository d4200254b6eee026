"""What a card reader can be told to do, whatever its wire, and what it calls its failures (XFS4IoT words)."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from devices.cardreader.chip import Atr, ChipProtocol, Response
from devices.cardreader.tracks import Tracks
from devices.driver import Driver
from devices.errors import DeviceError
from devices.status import DeviceState, DeviceStatus

F = TypeVar("F")

_INSERT_AGAIN = "ask the citizen to insert the card again"


class Media(StrEnum):
    """Where the card is, in the words of XFS4IoT. ENTERING is the gate, UNKNOWN a thing that is no bank card."""

    PRESENT = "present"
    NOT_PRESENT = "notPresent"
    ENTERING = "entering"
    JAMMED = "jammed"
    UNKNOWN = "unknown"


INSIDE = frozenset({Media.PRESENT, Media.UNKNOWN})


class Ending(StrEnum):
    """What became of a card."""

    TAKEN = "taken"
    RETAINED = "retained"


class Mechanism(Driver[F]):
    """The wire's side of a card reader speaking in frames `F`; every method here is called with the lock.

    A subclass says CAPABILITIES and gives `_wake`, `_media`, `_set_entry`, `_eject` and `_retain`, and of the others
    those it declares.
    """

    kind = "cardreader"
    CAPABILITIES: ClassVar[Mapping[str, Any]]

    _entry_open = True
    """Whether a card may get in; `_media` sets it where the reader tells."""
    _identity: str | None = None
    _retained = 0
    """Cards in the bin since the daemon's start."""

    @abstractmethod
    async def _wake(self) -> str | None:
        """Make the reader known and still, the card where it is; return its identity."""

    @abstractmethod
    async def _media(self) -> Media:
        """Ask where the card is; never JAMMED, which only a failed move shows."""

    @abstractmethod
    async def _set_entry(self, *, allowed: bool) -> None:
        """Let a card in at the front, or none."""

    @abstractmethod
    async def _eject(self) -> None:
        """Move the card to the gate, where it is not held; DeviceError when it does not move."""

    @abstractmethod
    async def _retain(self) -> None:
        """Move the card to the bin; DeviceError when it does not move."""

    async def _read_tracks(self) -> Tracks:
        """Read the magnetic tracks."""
        raise self.unsupported()

    async def _reset_chip(self, *, warm: bool) -> Atr:  # noqa: ARG002 - of those who declare it
        """Power the chip and reset it."""
        raise self.unsupported()

    async def _chip_off(self) -> None:
        """Take the chip's power away."""
        raise self.unsupported()

    async def _transmit(self, command: bytes, protocol: ChipProtocol) -> Response:  # noqa: ARG002 - as above
        """Exchange one APDU with the chip as it is."""
        raise self.unsupported()

    async def _seek_contactless(self) -> bool:
        """Tell whether the card answers over the air."""
        raise self.unsupported()

    async def _move(self, move: Callable[[], Awaitable[None]]) -> Media:
        """Move the card and see where it went, twice at most; JAMMED when it stays inside.

        Raises DeviceError `cardreader.card_removed` when there is no card to move.
        """
        for _ in range(2):
            try:
                await move()
            except DeviceError as error:
                if error.code == self.card_removed().code:
                    raise
            media = await self._media()
            if media not in INSIDE:
                return media
        return Media.JAMMED

    def _status_with(self, media: Media) -> DeviceStatus:
        details: dict[str, str | bool] = {"media": str(media)}
        if self._retained:
            details["retained"] = str(self._retained)
        if media is Media.JAMMED:
            return DeviceStatus(DeviceState.HARDWARE_ERROR, self.jammed().code, self._identity, details)
        return DeviceStatus(DeviceState.ONLINE, None, self._identity, details)

    def card_removed(self) -> DeviceError:
        """Return the error of a card that is not there (any more)."""
        return self.error("card_removed", "the card is not there", advice=_INSERT_AGAIN, retry=True)

    def jammed(self) -> DeviceError:
        """Return the error of a card that does not move."""
        return self.error(
            "jammed",
            "the card does not move",
            advice="open the reader and free the card; it is tried again by itself",
            retry=False,
        )

    def not_taken(self) -> DeviceError:
        """Return the error of a card that stays at the gate."""
        return self.error("not_taken", "a card is at the gate", advice="ask the citizen to take it", retry=True)

    def invalid_card(self) -> DeviceError:
        """Return the error of a thing that is no bank card."""
        return self.error("invalid_card", "not a bank card", advice=_INSERT_AGAIN, retry=True)

    def require_capability(self, name: str) -> None:
        """Raise DeviceError `cardreader.unsupported` when the reader does not declare it."""
        if not self.CAPABILITIES.get(name):
            raise self.unsupported()

    def unsupported(self) -> DeviceError:
        """Return the error of what this reader cannot do."""
        return self.error("unsupported", "this reader cannot do it", advice="use another way to read", retry=False)
