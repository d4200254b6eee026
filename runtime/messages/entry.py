"""A row of the catalogue of messages, and the streams of records."""

from typing import Literal, get_args

import msgspec

Stream = Literal["alarm", "supervision", "telemetry"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
"""The streams of records, the most urgent first. Only telemetry is ever shed."""


class Entry(msgspec.Struct, frozen=True):
    """A row of the catalogue; `stream` is where a message is journaled, None for one that never is."""

    schema: str
    version: int
    personal: bool
    limit_bytes: int
    stream: Stream | None = None


class Personal(msgspec.Struct, frozen=True):
    """A message with a citizen's data in clear, on its way to the sealed line: it prints as its name alone (T22)."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
