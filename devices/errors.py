"""What can go wrong at a peripheral, as the rest of the house sees it."""


class DeviceError(Exception):
    """A device did not do what was asked.

    `code` is stable and starts with the device kind (`idcard.no_card`); `retry` says whether the same call
    may succeed later without a hand; `advice` tells the reader of a log what to do. Nothing personal in it.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


class WrongDevice(DeviceError):
    """Not the device that this terminal was given: `kind.wrong_device` or `kind.swapped`. A hand must mend it."""
