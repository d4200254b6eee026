"""What `govterm demo --sabotage` breaks."""

from enum import StrEnum


class Sabotage(StrEnum):
    """How the story can be broken on purpose; the verdict must find each."""

    PLANT_NAME = "plant-name"
    DROP_RECORD = "drop-record"
    DOUBLE_RECORD = "double-record"
    BROKEN_SEAL = "broken-seal"
    SAME_FACE = "same-face"
