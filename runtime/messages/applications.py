"""Applications (T8) and what became of them (T11). The terminal makes the receipt number before anything is sent."""

from typing import Literal

import msgspec

from runtime.messages.entry import Entry, Personal

ReceiptState = Literal[
    "accepted",
    "pending",
    "refused",
    "not_filed",
    "registered",
    "assigned",
    "handling",
    "answered",
    "closed",
    "issued",
    "paid",
    "reversed",
]
"""Where a matter stands; `not_filed` means that the platform never had the whole body and never will."""


class Scan(msgspec.Struct, frozen=True):
    """A scanned material: its id in the matter, the PDF and its SM3 digest."""

    material: str
    pdf: bytes
    digest: bytes


class ApplicationFiling(Personal, frozen=True):
    """Files an application; `form` is the JSON of the filled form, `payment` the order that paid the fee."""

    receipt: str
    assertion: bytes
    catalogue_version: int
    matter: str
    matter_version: int
    form: bytes
    scans: tuple[Scan, ...]
    fee_fen: int
    payment: str | None


class ReceiptStanding(Personal, frozen=True):
    """Where one receipt stands; `text` is the platform's own word to the citizen, `at` when that was so."""

    receipt: str
    kind: Literal["application", "certificate", "payment", "hotline"]
    state: ReceiptState
    title: str
    text: str
    at: int
    code: str | None = None


class ProgressQuery(Personal, frozen=True):
    """Asks where receipts stand: one by its number, or all of a verified citizen."""

    receipt: str | None = None
    assertion: bytes | None = None


class Progress(Personal, frozen=True):
    """The receipts asked for, newest first; empty when there is none."""

    receipts: tuple[ReceiptStanding, ...]


class ReceiptVoid(msgspec.Struct, frozen=True):
    """A record: what the citizen was given this number for never reached the platform whole (rule 2)."""

    receipt: str
    kind: Literal["application", "hotline"]
    at: float


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    ApplicationFiling: Entry("application.filing", 1, personal=True, limit_bytes=24_000_000),
    ReceiptStanding: Entry("receipt.standing", 1, personal=True, limit_bytes=4_096),
    ProgressQuery: Entry("progress.query", 1, personal=True, limit_bytes=2_048),
    Progress: Entry("progress", 1, personal=True, limit_bytes=256_000),
    ReceiptVoid: Entry("receipt.void", 1, personal=False, limit_bytes=512, stream="supervision"),
}
