"""What `govterm soak terminal` can break on purpose."""

from enum import StrEnum


class TerminalSabotage(StrEnum):
    """What a soak can break on purpose; its verdict must find each."""

    DROP_RECORD = "drop-record"
    DOUBLE_CHARGE = "double-charge"
    PLANT_NAME = "plant-name"
    NO_RESTART = "no-restart"
