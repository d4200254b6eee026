"""The keys in force at one end of the line, and those before them while messages under them may be on the way."""

import math
from dataclasses import dataclass

from transport.envelope import Opener, Sealer, read, unknown_key


@dataclass(slots=True, eq=False, repr=False)
class Ends:
    """One end of a pair of keys: it seals under one and opens under the other.

    `ends_at` is when both are to be destroyed, on the clock that `KeyRing.expire` is told.
    """

    sealer: Sealer
    opener: Opener
    ends_at: float = math.inf

    def wipe(self) -> None:
        """Destroy both keys."""
        self.sealer.wipe()
        self.opener.wipe()


class KeyRing:
    """Seals under the keys in force; opens under these, the ones before, and the ones that were offered.

    So a rotation loses nothing that is on its way (T20).
    """

    def __init__(self, keys: Ends | None = None) -> None:
        self._sealing = keys
        self._before: Ends | None = None
        self._offered: Ends | None = None

    @property
    def is_nearly_used(self) -> bool:
        """Whether it is time to ask for new keys."""
        return self._sealing is not None and self._sealing.sealer.is_nearly_used

    @property
    def in_force(self) -> Ends | None:
        """The keys that it seals under."""
        return self._sealing

    def install(self, keys: Ends, *, before_until: float = math.inf) -> None:
        """Seal under `keys` from now on; the ones before open until then, `retire` or the next rotation."""
        self.retire()
        if self._sealing is not None:
            self._sealing.ends_at = min(self._sealing.ends_at, before_until)
        self._before, self._sealing = self._sealing, keys

    def offer(self, keys: Ends) -> None:
        """Install `keys` once the other end is heard under them: only then has it got them."""
        self.withdraw()
        self._offered = keys

    def withdraw(self) -> None:
        """Destroy the keys that were offered."""
        if self._offered is not None:
            self._offered.wipe()
            self._offered = None

    def expire(self, now: float) -> None:
        """Destroy every key whose end has come."""
        if self._sealing is not None and now >= self._sealing.ends_at:
            self._sealing.wipe()
            self._sealing = None
        if self._before is not None and now >= self._before.ends_at:
            self.retire()
        if self._offered is not None and now >= self._offered.ends_at:
            self.withdraw()

    def retire(self) -> None:
        """Destroy the keys before those in force."""
        if self._before is not None:
            self._before.wipe()
            self._before = None

    def seal(self, stream: str, plaintext: bytes) -> bytes:
        """Return the envelope under the keys in force; raise TransportError as Sealer does."""
        if self._sealing is None:
            raise unknown_key()
        return self._sealing.sealer.seal(stream, plaintext)

    def open(self, stream: str, body: bytes, *, before_until: float = math.inf) -> bytes:
        """Return the plaintext of an envelope; raise TransportError as `envelope.read` and Opener do.

        The first under offered keys installs them, with `before_until` as in `install`.
        """
        envelope = read(body)
        for keys in (self._sealing, self._before, self._offered):
            if keys is not None and keys.opener.key_id == envelope.key_id:
                plaintext = keys.opener.open(stream, envelope)
                if keys is self._offered:
                    self._offered = None
                    self.install(keys, before_until=before_until)
                return plaintext
        raise unknown_key()

    def wipe(self) -> None:
        """Destroy every key."""
        for keys in (self._sealing, self._before, self._offered):
            if keys is not None:
                keys.wipe()
        self._sealing = self._before = self._offered = None
