"""What an enumeration can break on purpose."""

from enum import StrEnum


class Sabotage(StrEnum):
    """How an enumeration can be broken; its verdict must find each."""

    SKIP_FSYNC = "skip-fsync"
    DOUBLE_CHARGE = "double-charge"
    KEEP_FEE = "keep-fee"
    LOSE_FILING = "lose-filing"
