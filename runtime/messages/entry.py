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
