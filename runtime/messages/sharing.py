"""Sharing of the platform's information (S1 to S7): granted, counted, checked on arrival.

What is counted: a query and a call are one unit each, a part of a data set one unit for each 1,024 bytes begun. A
refusal is never counted. Every use has a name of the terminal's own, by which both sides know it again.
"""

from typing import Literal

import msgspec

from runtime.messages.entry import Entry, Personal

Mode = Literal["query", "dataset", "call"]
UNIT_BYTES = 1_024


class Grant(msgspec.Struct, frozen=True):
    """The right to use a resource for a purpose in a mode until a time (S4)."""

    id: str
    resource: str
    purpose: str
    mode: Mode
    expires_unix: int


class GrantsRequest(msgspec.Struct, frozen=True):
    """Asks for this terminal's grants."""


class Grants(msgspec.Struct, frozen=True):
    """Every grant in force, and whether use is suspended (S7); `signature` is the platform's over `grants_content`."""

    grants: tuple[Grant, ...]
    suspended: bool
    issued_unix: int
    signature: bytes


class SharingQuery(Personal, frozen=True):
    """A one-off query or a typed call (S2) under a grant; `parameters` is JSON, `use` the name of this use.

    What is about a person goes with the assertion of the verified citizen, who is that person.
    """

    use: str
    grant: str
    resource: str
    purpose: str
    mode: Literal["query", "call"]
    parameters: bytes
    assertion: bytes | None = None


class SharingAnswer(Personal, frozen=True):
    """What was found: `rows` is a JSON array of `count` objects, `digest` its SM3, `as_of_unix` its age (S3).

    `counted_unix` is when the platform counted the use, by its clock.
    """

    resource: str
    rows: bytes
    count: int
    digest: bytes
    as_of_unix: int
    counted_unix: int
    units: int


class DatasetRequest(msgspec.Struct, frozen=True):
    """Asks for a part of a data set; version 0 is the current one, later parts name the version of the first.

    The offset behind the last byte of a version asks whether it is still the current one: the part is then empty. A
    version that is not is refused with `sharing.version_changed`.
    """

    use: str
    grant: str
    resource: str
    purpose: str
    version: int
    offset: int


class DatasetPart(msgspec.Struct, frozen=True):
    """A part of a version of a data set, which is a JSON object a line.

    `digest`, `count` and `as_of_unix` are of the whole of `total` bytes; `counted_unix` as in an answer.
    """

    resource: str
    version: int
    offset: int
    total: int
    body: bytes
    digest: bytes
    count: int
    as_of_unix: int
    counted_unix: int
    units: int


class UseRequest(msgspec.Struct, frozen=True):
    """Asks what the platform counted of a use whose answer never came (S6)."""

    use: str


class Use(msgspec.Struct, frozen=True):
    """What the platform counted of a use."""

    resource: str
    mode: Mode
    units: int
    counted_unix: int


class UseStanding(msgspec.Struct, frozen=True):
    """What the platform counted of the use `use`; None when it refused it or never had it."""

    use: str
    counted: Use | None


class StatementRequest(msgspec.Struct, frozen=True):
    """Asks for the platform's count of a month (`2027-01`, China Standard Time) of this terminal (S6)."""

    month: str


class StatementLine(msgspec.Struct, frozen=True):
    """What was used of a resource in a mode."""

    resource: str
    mode: Mode
    uses: int
    units: int


class Statement(msgspec.Struct, frozen=True):
    """The platform's count of a month."""

    month: str
    lines: tuple[StatementLine, ...]


class SharingChanged(msgspec.Struct, frozen=True):
    """Command: grants or suspension changed; the terminal asks for them."""

    reason: str


def grants_content(terminal: str, grants: tuple[Grant, ...], issued_unix: int, *, suspended: bool) -> bytes:
    """Return the bytes that the platform signs."""
    return msgspec.msgpack.encode(["govterm-grants", 1, terminal, grants, suspended, issued_unix])


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    GrantsRequest: Entry("sharing.grants_request", 1, personal=False, limit_bytes=256),
    Grants: Entry("sharing.grants", 1, personal=False, limit_bytes=64_000),
    SharingQuery: Entry("sharing.query", 1, personal=True, limit_bytes=64_000),
    SharingAnswer: Entry("sharing.answer", 1, personal=True, limit_bytes=2_000_000),
    DatasetRequest: Entry("sharing.dataset", 1, personal=False, limit_bytes=1_024),
    DatasetPart: Entry("sharing.dataset_part", 1, personal=False, limit_bytes=300_000),
    UseRequest: Entry("sharing.use_request", 1, personal=False, limit_bytes=256),
    UseStanding: Entry("sharing.use", 1, personal=False, limit_bytes=512),
    StatementRequest: Entry("sharing.statement_request", 1, personal=False, limit_bytes=256),
    Statement: Entry("sharing.statement", 1, personal=False, limit_bytes=256_000),
    SharingChanged: Entry("sharing.changed", 1, personal=False, limit_bytes=256),
}
