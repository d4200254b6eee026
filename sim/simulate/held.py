"""What the daemon still holds of a citizen when a session is over: personal values nobody wiped (rule 1, T20)."""

import asyncio
import gc
from collections.abc import Callable

from devices.personal import PersonalBytes, PersonalText
from sim.simulate.people import People

RETENTION_SECONDS = 1.0
"""Within this everything of a session is wiped."""
LOOKED_AT = 10
"""Of so many sessions one is looked at: a look at every object of the process costs milliseconds."""
_TYPES = (PersonalText, PersonalBytes)


def unwiped() -> list[PersonalText | PersonalBytes]:
    """Return every personal value of this process that is not wiped; nobody but the daemon makes any."""
    return [one for one in gc.get_objects() if type(one) in _TYPES and not one.wiped]


class Held:
    """Looks for what is left of sessions; `is_over` says whether there is none, `fail` is told what is left."""

    def __init__(self, people: People, is_over: Callable[[], bool], fail: Callable[[str], None]) -> None:
        self.looks = 0
        self._people = people
        self._is_over = is_over
        self._fail = fail
        self._closed = 0

    def closed(self) -> None:
        """Take note that a session was just wiped, and look at every tenth a second later."""
        self._closed += 1
        if self._closed % LOOKED_AT == 1:
            asyncio.get_running_loop().call_later(RETENTION_SECONDS, self._look, self._closed)

    def look(self, when: str) -> None:
        """Look now: nothing is held."""
        self.looks += 1
        for one in unwiped():
            data = one.reveal().encode() if isinstance(one, PersonalText) else bytes(one.view())
            whose = ", ".join(f"citizen {ordinal}" for ordinal in sorted(self._people.found(data))) or "somebody"
            self._fail(f"{when} the daemon holds {getattr(one, 'kind', 'bytes')} of {whose}")

    def forget(self) -> None:
        """Drop what a dead process held: its memory is gone with it, and nothing of it runs any more."""
        for one in unwiped():
            one.wipe()

    def _look(self, closed: int) -> None:
        if self._closed == closed and self._is_over():
            self.look(f"{RETENTION_SECONDS:.0f} s after a session")
