"""The keys in force at one end of the line, and those before them while messages under them may be on the way."""

from dataclasses import dataclass

from transport.envelope import Opener, Sealer, read, unknown_key


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ends:
    """One end of a pair of keys: it seals under one and opens under the other."""

    sealer: Sealer
    opener: Opener

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

    def install(self, keys: Ends) -> None:
        """Seal under `keys` from now on; the ones before open until `retire` or the next rotation."""
        self.retire()
        self._before, self._sealing = self._sealing, keys

    def offer(self, keys: Ends) -> None:
        """Install `keys` once the other end is heard under them: only then has it got them."""
        if self._offered is not None:
            self._offered.wipe()
        self._offered = keys

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

    def open(self, stream: str, body: bytes) -> bytes:
        """Return the plaintext of an envelope; raise TransportError as `envelope.read` and Opener do."""
        envelope = read(body)
        for keys in (self._sealing, self._before, self._offered):
            if keys is not None and keys.opener.key_id == envelope.key_id:
                plaintext = keys.opener.open(stream, envelope)
                if keys is self._offered:
                    self._offered = None
                    self.install(keys)
                return plaintext
        raise unknown_key()

    def wipe(self) -> None:
        """Destroy every key."""
        for keys in (self._sealing, self._before, self._offered):
            if keys is not None:
                keys.wipe()
        self._sealing = self._before = self._offered = None
