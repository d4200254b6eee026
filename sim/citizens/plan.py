"""What each citizen comes for: a mix that a seed gives, every kind of visit once in seven citizens."""

import random
from typing import Literal, get_args

Visit = Literal["certificate", "application", "fee_by_card", "fee_by_qr", "progress", "hotline", "sharing"]
VISITS: tuple[Visit, ...] = get_args(Visit)


def plan(citizens: int, seed: int) -> list[Visit]:
    """Return the visits of so many citizens; the same arguments give the same visits."""
    source = random.Random(f"visits {seed}")
    visits: list[Visit] = []
    while len(visits) < citizens:
        visits += source.sample(VISITS, len(VISITS))
    return visits[:citizens]


def luck(seed: int, number: int) -> random.Random:
    """Return what a citizen chooses by."""
    return random.Random(f"citizen's choice {seed} {number}")
