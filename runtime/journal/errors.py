"""How the journal refuses."""


class JournalError(Exception):
    """The journal cannot be used, or refuses what it was given.

    Codes: `journal.newer`, `journal.damaged`, `journal.write_failed`, `journal.disk_full`, `journal.personal`,
    `journal.no_stream`, `journal.no_intent`.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


def damaged(reason: str) -> JournalError:
    """Return the refusal of a file that is no journal, or a broken one."""
    return JournalError(
        "journal.damaged",
        f"the journal cannot be read: {reason}",
        advice="keep the file for examination and start with an empty state directory",
    )


def disk_full() -> JournalError:
    """Return the refusal of a record for which there is no room, whatever was dropped for it."""
    return JournalError(
        "journal.disk_full",
        "no room for the record, though everything that may be dropped was dropped",
        advice="free space on the disk of the state directory, or bring the line to the platform back",
        retry=True,
    )
