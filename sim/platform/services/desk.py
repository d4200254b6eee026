"""What every service of the reference platform works with."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sim.people import Population
from sim.platform.faults import Faults
from sim.platform.store import Store
from transport import sm2

Handler = Callable[[str, Any], msgspec.Struct]
"""Answers one kind of message of a terminal: (terminal, message) to the answer, a Refusal where it is none."""
Handlers = dict[type[msgspec.Struct], Handler]


@dataclass(frozen=True, slots=True)
class Desk:
    """The platform's database, keys, people and clock; `order` gives every terminal a command, `order_one` one of them.

    `signing` signs what terminals verify by the platform's key, `seal` is the certificate issuer's.
    """

    store: Store
    signing: sm2.PrivateKey
    seal: sm2.PrivateKey
    people: Population
    font: Path
    wall_clock: Callable[[], float]
    faults: Faults
    order: Callable[[msgspec.Struct], None]
    order_one: Callable[[str, msgspec.Struct], None]

    @property
    def database(self) -> sqlite3.Connection:
        """The platform's database: what a service does there is part of the call's transaction."""
        return self.store.database

    def now(self) -> int:
        """Return seconds since 1970 by the services' clock, which a fault may have set wrong."""
        return int(self.wall_clock() + self.faults.clock_seconds)
