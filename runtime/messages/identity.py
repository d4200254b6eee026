"""Identity: a verified citizen becomes an assertion of the platform, which every later call carries (I4, T9)."""

from typing import Literal

import msgspec

from runtime.messages.entry import Entry, Personal
from runtime.messages.supervision import FaceEvidence

Means = Literal["face", "fingerprint", "assisted"]
"""How the citizen was verified; `assisted` is by a member of staff with a second factor."""


class AssertionRequest(Personal, frozen=True):
    """Asks for an assertion; `session` is the random reference of the citizen's session, `consent` what was agreed to.

    `staff` is the account of the member of staff who assisted (H6), `code` the one-time code of the second factor.
    """

    session: str
    name: str
    id_number: str
    means: Means
    consent: str
    face: FaceEvidence | None = None
    staff: str | None = None
    code: str | None = None


class AssertionIssue(Personal, frozen=True):
    """An assertion: `content` is an encoded AssertionContent, `signature` the platform's over it (SM2, SM3, DER)."""

    content: bytes
    signature: bytes


class AssertionContent(msgspec.Struct, frozen=True, array_like=True):
    """That `subject` (random for each assertion) was verified in this session on this terminal."""

    version: int
    terminal: str
    session: str
    subject: str
    means: Means
    issued_unix: int
    expires_unix: int


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    AssertionRequest: Entry("assertion.request", 1, personal=True, limit_bytes=4_096),
    AssertionIssue: Entry("assertion.issue", 1, personal=True, limit_bytes=1_024),
}
