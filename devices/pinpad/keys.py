"""What is known of the keys in a PIN pad, by evidence from the pad alone (L3)."""

from dataclasses import dataclass
from enum import StrEnum


class KeyState(StrEnum):
    """What the pad has shown of a working key since its link was opened."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    PRESENT = "present"
    VERIFIED = "verified"
    """Loaded in this life of the link, and its check value was the platform's."""
    MISMATCHED = "mismatched"
    """Loaded in this life of the link, and its check value was another: not used."""


class EncryptionState(StrEnum):
    """XFS4IoT `encryptionState`: ready is both working keys there, initialized only the master key."""

    READY = "ready"
    INITIALIZED = "initialized"
    NOT_INITIALIZED = "notInitialized"
    UNDEFINED = "undefined"


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The keys of a pad."""

    encryption: EncryptionState
    pin_key: KeyState
    mac_key: KeyState


class KnownKeys:
    """What is known of the two working keys; made anew for each life of the link."""

    def __init__(self, pin_slot: int, mac_slot: int) -> None:
        self.initialised: bool | None = None
        self._pin_slot = pin_slot
        self._mac_slot = mac_slot
        self._states = {pin_slot: KeyState.UNKNOWN, mac_slot: KeyState.UNKNOWN}

    def __getitem__(self, slot: int) -> KeyState:
        return self._states[slot]

    def __setitem__(self, slot: int, state: KeyState) -> None:
        self._states[slot] = state

    def __contains__(self, slot: int) -> bool:
        return slot in self._states

    def seen(self, slot: int) -> None:
        """Note that the pad used the key; what its check value has shown stays."""
        if self._states[slot] in {KeyState.UNKNOWN, KeyState.ABSENT}:
            self._states[slot] = KeyState.PRESENT

    def lost(self) -> None:
        """Note that nothing is known any more: a pad that defends its keys may have erased them."""
        self._states = dict.fromkeys(self._states, KeyState.UNKNOWN)

    @property
    def status(self) -> KeyStatus:
        """What is known, in one value."""
        usable = {KeyState.PRESENT, KeyState.VERIFIED}
        if self.initialised is None:
            encryption = EncryptionState.UNDEFINED
        elif not self.initialised:
            encryption = EncryptionState.NOT_INITIALIZED
        elif usable.issuperset(self._states.values()):
            encryption = EncryptionState.READY
        else:
            encryption = EncryptionState.INITIALIZED
        return KeyStatus(encryption, self._states[self._pin_slot], self._states[self._mac_slot])
