"""Who may maintain the terminal, as the platform signs it (H6, H10), and the seals of the audit log (H7).

A staff word is a command. It carries a signature of its own, because it is kept: the terminal verifies it again at each
start, so no row in the journal makes somebody staff whom the platform never did. One that was revoked or replaced
verifies until it ends: who can write the journal, as root can, can put it back.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime.messages.entry import Entry

LONGEST_GRANT_SECONDS = 90 * 86_400
"""A grant ends by itself after this at the latest (H6)."""
LONGEST_WINDOW_SECONDS = 12 * 3_600
"""A remote-maintenance window closes by itself after this at the latest (H10)."""

WordId = Annotated[str, Meta(min_length=1, max_length=32, pattern="^[A-Za-z0-9-]+$")]
Account = Annotated[str, Meta(min_length=1, max_length=32, pattern="^[a-z0-9_][a-z0-9_.-]*$")]
_Seconds = Annotated[int, Meta(ge=0, lt=2**53)]


class StaffGrant(msgspec.Struct, frozen=True):
    """Command: a person's Unix account has a role from then until then (UTC seconds); the same id replaces it (H6).

    One that is `remote` counts only while a RemoteWindow that names its account is open (H10). `signature` is the
    platform's SM2 signature of `word_content`.
    """

    id: WordId
    account: Account
    role: Literal["operator", "tester"]
    remote: bool
    begins_unix: _Seconds
    ends_unix: _Seconds
    signature: bytes


class RemoteWindow(msgspec.Struct, frozen=True):
    """Command: these accounts may maintain the terminal from afar, through the bastion that is named (H10).

    It opens and closes by itself (UTC seconds); the same id replaces it. `signature` as in a StaffGrant.
    """

    id: WordId
    accounts: Annotated[tuple[Account, ...], Meta(min_length=1, max_length=16)]
    bastion: Annotated[str, Meta(min_length=1, max_length=64)]
    begins_unix: _Seconds
    ends_unix: _Seconds
    signature: bytes


class StaffRevocation(msgspec.Struct, frozen=True):
    """Command: the grant, or the window, with this id ends now."""

    id: WordId


class AuditSeal(msgspec.Struct, frozen=True):
    """Record: the terminal sealed its audit log (H7).

    `lines` lines stand before the seal, and `head` is the SM3 of the last of them. `at` is UTC seconds, by the `clock`
    that is named. `signature` is the identity key's, of `seal_content`.
    """

    at: int
    clock: Literal["platform", "own"]
    lines: int
    head: bytes
    signature: bytes
    boot_id: str
    rig: bool


def word_content(terminal: str, word: StaffGrant | RemoteWindow) -> bytes:
    """Return the bytes that the platform signs: a MessagePack array of a label, the terminal and every other field."""
    if isinstance(word, StaffGrant):
        said = [word.id, word.account, word.role, word.remote, word.begins_unix, word.ends_unix]
        return msgspec.msgpack.encode(["govterm-staff-grant", 1, terminal, *said])
    said = [word.id, word.accounts, word.bastion, word.begins_unix, word.ends_unix]
    return msgspec.msgpack.encode(["govterm-remote-window", 1, terminal, *said])


def seal_content(terminal: str, *, at: int, clock: str, lines: int, head: str) -> bytes:
    """Return the bytes that the identity key signs: six lines of text, so that a shell can make them too.

    `head` is hexadecimal, in small letters.
    """
    return f"govterm-audit-seal 1\n{terminal}\n{at}\n{clock}\n{lines}\n{head}\n".encode()


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    StaffGrant: Entry("staff.grant", 1, personal=False, limit_bytes=1_024),
    RemoteWindow: Entry("staff.window", 1, personal=False, limit_bytes=2_048),
    StaffRevocation: Entry("staff.revocation", 1, personal=False, limit_bytes=256),
    AuditSeal: Entry("audit.seal", 1, personal=False, limit_bytes=1_024, stream="supervision"),
}
