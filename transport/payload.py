"""What the transport carries, and the log it reads records from. It knows no message's meaning."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, repr=False)
class Payload:
    """One typed message as bytes: `schema` and `version` name its meaning to the two ends.

    `personal` payloads are never journaled and print nothing of their body.
    """

    schema: str
    version: int
    personal: bool
    body: bytes

    def __repr__(self) -> str:
        return f"<payload {self.schema} v{self.version}, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True)
class Record:
    """A journaled payload without personal data and its place for the platform (sequences start at 1, no gaps).

    `stream` is what the platform knows the stream by; the log may call it otherwise.
    """

    stream: str
    sequence: int
    payload: Payload


class RecordLog(Protocol):
    """The durable log behind the outbox; `runtime.journal` fulfils it."""

    async def unacknowledged(self, stream: str, after: int, limit: int) -> list[Record]:
        """Return up to `limit` records of `stream` with a sequence above `after`, in order."""

    async def acknowledge(self, stream: str, sequence: int) -> None:
        """Note that the platform has every record of `stream` up to and including `sequence`."""

    async def has(self, stream: str, sequence: int, digest: bytes) -> bool:
        """Whether the body of the record at `sequence` has this SM3, as far as the log still knows it."""

    async def renew(self, stream: str) -> None:
        """Tell what was not acknowledged of `stream` under another name from now on, numbered from 1.

        The platform has other records under this one: the log went back.
        """

    async def changed(self) -> None:
        """Return when a record was appended since the last call."""
