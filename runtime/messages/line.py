"""What is said about the line itself: commands of the platform (T17, T20, H5), and trials of it (T14, I6)."""

import msgspec

from runtime.messages.entry import Entry


class TrialRecord(msgspec.Struct, frozen=True):
    """A record that tries the line (T14, I6): `id` and the SM3 `digest` of `filler` let somebody else count it."""

    id: str
    digest: bytes
    filler: bytes


class TrialHealth(msgspec.Struct, frozen=True):
    """As TrialRecord, on the stream that a full disk sheds first."""

    id: str
    digest: bytes
    filler: bytes


class TrialCall(msgspec.Struct, frozen=True):
    """A call that tries the line: the platform counts `id` once, checks the digest of `filler` and answers."""

    id: str
    digest: bytes
    filler: bytes
    answer_bytes: int


class TrialAnswer(msgspec.Struct, frozen=True):
    """The answer to a TrialCall: its id, and as many random bytes as were asked for with their digest."""

    id: str
    digest: bytes
    filler: bytes


class KeyRotation(msgspec.Struct, frozen=True):
    """Command: ask for new keys now."""

    reason: str


class KeyRevocation(msgspec.Struct, frozen=True):
    """Command: the keys are revoked; nothing more is sent under them."""

    reason: str


class CatalogueAnnouncement(msgspec.Struct, frozen=True):
    """Command: the catalogue of matters has this version and SM3 digest now (T17)."""

    catalogue_version: int
    digest: bytes


class MaintenanceWindow(msgspec.Struct, frozen=True):
    """Command: maintenance is announced for this time (UTC seconds, H5); one with the same id replaces it."""

    id: str
    begins_unix: int
    ends_unix: int


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    TrialRecord: Entry("trial.record", 1, personal=False, limit_bytes=65_536, stream="supervision"),
    TrialHealth: Entry("trial.health", 1, personal=False, limit_bytes=65_536, stream="telemetry"),
    TrialCall: Entry("trial.call", 1, personal=False, limit_bytes=20_000_000),
    TrialAnswer: Entry("trial.answer", 1, personal=False, limit_bytes=20_000_000),
    KeyRotation: Entry("key.rotation", 1, personal=False, limit_bytes=256),
    KeyRevocation: Entry("key.revocation", 1, personal=False, limit_bytes=256),
    CatalogueAnnouncement: Entry("catalogue.announcement", 1, personal=False, limit_bytes=256),
    MaintenanceWindow: Entry("maintenance.window", 1, personal=False, limit_bytes=256),
}
