"""A hotline request that has its number; it lives in the session and dies with it (rule 1, H1)."""

from dataclasses import dataclass

from devices.personal import PersonalBytes

SCANS = "hotline_"
"""How the names of a request's scans begin among the session's."""


@dataclass(slots=True, eq=False)
class RequestDraft:
    """A request's number, and what became of it.

    `doubtful` is the idempotency key of a registration of which nobody knows yet whether the platform has it, `sent`
    the SM3 of what was said then, by which it is known again.
    """

    receipt: str
    doubtful: bytes | None = None
    sent: PersonalBytes | None = None

    def send(self, digest: bytes) -> None:
        """Note what is sent."""
        self.wipe()
        self.sent = PersonalBytes(digest)

    def has_sent(self, digest: bytes) -> bool:
        """Whether what was sent last says the same."""
        if self.sent is None:
            return False
        with self.sent.view() as sent:
            return sent == digest

    def wipe(self) -> None:
        """Overwrite what it is known by."""
        if self.sent is not None:
            self.sent.wipe()
            self.sent = None
