"""What can go wrong on the line to the platform."""


class TransportError(Exception):
    """The line or the platform did not do what was asked.

    `code` is stable (`platform.no_answer`, `platform.refused`, `line.down`, `key.refused`, `envelope.*`);
    `retry` says whether the same call may succeed later; `advice` tells the reader of a log what to do.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice
