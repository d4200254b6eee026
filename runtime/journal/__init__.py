"""The journal: what must survive a power cut, without anything personal (rules 1 and 2, T12, T20)."""

from runtime.journal.errors import JournalError
from runtime.journal.store import Intent, Journal, Outcome

__all__ = ["Intent", "Journal", "JournalError", "Outcome"]
