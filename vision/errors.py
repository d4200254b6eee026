"""What can go wrong in the vision process, as the rest of the house sees it."""


class VisionError(Exception):
    """A picture task ended without an answer.

    `code` is stable (`face.none`, `face.many`, `face.too_dark`, `camera.lost`, `photo.undecodable`,
    `vision.unavailable`, ...); `retry` says whether the same call may succeed later; `advice` tells the reader
    of a log what to do.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice
