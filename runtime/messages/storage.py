"""What is said of a journal that was damaged (I6, L29): records, and the calls that the platform knows of."""

from typing import Literal

import msgspec

from runtime.messages.entry import Entry


class JournalRebuilt(msgspec.Struct, frozen=True):
    """The terminal's journal was damaged and made anew of what could be read of it and of its backup copy (I6, L29).

    `records` that waited for the platform and open `intents` are there again; `skipped` places could not be read.
    Unless it `is_whole`, something is lost that nobody can count. `damaged_at` is UTC seconds.
    """

    damaged_at: float
    source: Literal["file", "file_and_backup", "backup", "nothing"]
    records: int
    intents: int
    skipped: int
    is_whole: bool
    at: float
    boot_id: str
    rig: bool


class IntentLost(msgspec.Struct, frozen=True):
    """The platform acted on a call of which the rebuilt journal has no intent: what became of it nobody here knows.

    `key` is the call's (hexadecimal), `schema` what was asked, `acted_at` when, by the platform's clock (UTC seconds).
    """

    key: str
    schema: str
    acted_at: float
    at: float
    boot_id: str
    rig: bool


class CallsRequest(msgspec.Struct, frozen=True):
    """Asks for the calls of this terminal on which the platform acted `since` then (UTC seconds)."""

    since: float


class ActedCall(msgspec.Struct, frozen=True):
    """A call on which the platform acted: its key, what was asked, and when (UTC seconds, the platform's clock)."""

    key: bytes
    schema: str
    at: float


class CallList(msgspec.Struct, frozen=True):
    """The calls that were asked for: the last ones, when they are too many."""

    calls: tuple[ActedCall, ...]


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    JournalRebuilt: Entry("journal.rebuilt", 1, personal=False, limit_bytes=1_024, stream="supervision"),
    IntentLost: Entry("journal.intent_lost", 1, personal=False, limit_bytes=512, stream="supervision"),
    CallsRequest: Entry("journal.calls_request", 1, personal=False, limit_bytes=64),
    CallList: Entry("journal.calls", 1, personal=False, limit_bytes=1_000_000),
}
