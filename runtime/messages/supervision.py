"""Records without personal data: steps of transactions (T12), alarms (T23), health (T16)."""

from typing import Literal

import msgspec

from runtime.messages.entry import Entry


class FaceEvidence(msgspec.Struct, frozen=True):
    """What a face decision rests on: names and numbers of the method, none of the person (T9).

    `threshold` is the cosine at the `operating_point`, a rate of false matches; `bound` is the one measured there.
    `layers` is what each layer of the presentation-attack detection came to, with its reason when that is not
    `bona_fide` (`attack: challenge.flat`). How alike the two faces were is not told (L22).
    """

    decision: Literal["match", "no_match"]
    operating_point: str
    threshold: float
    bound: float
    frames: int
    model: str
    presentation_attack: Literal["not_checked", "bona_fide", "attack"]
    layers: dict[str, str]


class ConsentEvidence(msgspec.Struct, frozen=True):
    """What a citizen was asked to consent to, and which version of the text they saw."""

    purpose: Literal["face", "fingerprint"]
    version: str


class SupervisionEvent(msgspec.Struct, frozen=True):
    """One step of one transaction, without personal data (T12). Identifiers are random; times are UTC seconds.

    `operation` is what the transaction does, as the audit log calls it; a settlement and a ticket have none.

    The life of a fault's ticket (T15) is such a transaction: it says which `device` it is about. `face` is there when
    the step came to a face decision, `consent` when it was one; the outcome says whether it was given.
    """

    transaction: str
    step: str
    outcome: Literal["done", "refused", "unknown"]
    code: str | None
    at: float
    seconds: float
    boot_id: str
    rig: bool
    device: str | None = None
    face: FaceEvidence | None = None
    consent: ConsentEvidence | None = None
    operation: str | None = None


class Alarm(msgspec.Struct, frozen=True):
    """Something that must be told at once: tampering, a breach, a meddled line (T23). Nothing about citizens.

    `id` is random; `subject` is what it is about (a device, `line`, `egress`); `at` is UTC seconds on the terminal's
    clock, `boot_id` and `rig` as in a supervision event.
    """

    id: str
    code: str
    subject: str
    at: float
    boot_id: str
    rig: bool


class TerminalHealth(msgspec.Struct, frozen=True):
    """How the terminal is, from time to time (T16): its components' states and what it uses.

    `unknown_fields` counts what a platform of a later release said in this life that this release does not know.
    """

    at: float
    boot_id: str
    rig: bool
    up_seconds: float
    states: dict[str, str]
    waiting: dict[str, int]
    resident_bytes: int
    open_descriptors: int
    unknown_fields: int = 0


class RecordsShed(msgspec.Struct, frozen=True):
    """Stands in the place of the records `first` to `last` of its stream, which a full disk made the terminal drop."""

    first: int
    last: int
    at: float


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    SupervisionEvent: Entry("supervision.event", 1, personal=False, limit_bytes=2_048, stream="supervision"),
    Alarm: Entry("alarm", 1, personal=False, limit_bytes=1_024, stream="alarm"),
    TerminalHealth: Entry("terminal.health", 1, personal=False, limit_bytes=4_096, stream="telemetry"),
    RecordsShed: Entry("records.shed", 1, personal=False, limit_bytes=256, stream="telemetry"),
}
