"""A platform's view of a journal: it reads every stream in order, with the rule of the tombstones."""

import msgspec

from runtime.journal import Journal
from runtime.messages import CATALOGUE, RecordsShed, Stream
from transport.payload import Payload

SHED = CATALOGUE[RecordsShed].schema


def shed(payload: Payload) -> RecordsShed | None:
    """Return what a record says of shed ones, if it is such a record."""
    return msgspec.msgpack.decode(payload.body, type=RecordsShed) if payload.schema == SHED else None


async def whole(journal: Journal, receipted: dict[Stream, int] | None = None) -> dict[Stream, dict[int, Payload]]:
    """Return every record by stream and sequence; fail at a gap that no tombstone stands for.

    `receipted` is what the platform had before of each stream.
    """
    streams: dict[Stream, dict[int, Payload]] = {}
    for stream, name in journal.streams.items():
        following = (receipted or {}).get(stream, 0) + 1
        streams[stream] = {}
        for record in await journal.unacknowledged(name, 0, 999_999):
            if tombstone := shed(record.payload):
                assert stream == "telemetry"
                assert tombstone.first == following
                assert tombstone.last == record.sequence
            else:
                assert record.sequence == following
                streams[stream][record.sequence] = record.payload
            following = record.sequence + 1
    return streams
