"""How grave a line of the log is, as the journal reads it (sd-daemon(3)): for the daemon and the vision process."""

import os
from typing import TextIO

PREFIXES = {"critical": "<2>", "error": "<3>", "warning": "<4>", "info": "<6>", "debug": "<7>"}
"""What a line of a level begins with; journald takes it off again."""


def prefixes(stream: TextIO) -> dict[str, str]:
    """Return PREFIXES when `stream` is the journal's (JOURNAL_STREAM of systemd.exec(5)), else none."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file of the system's, or closed
        return {}
    return PREFIXES if os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" else {}
