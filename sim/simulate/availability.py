"""How long a terminal could serve and how long it could not, and of what (T5)."""

from collections import defaultdict

NEEDED = ("idcard", "vision", "camera", "platform")
"""Without these nobody is verified; what else fails costs a service, not the terminal."""
_REFUSING = ("low", "going_down", "no_return")
"""States of the power in which no citizen is taken any more (T14)."""
_WELL = ("online", "deviceBusy")
_ILL = ("offline", "hardwareError", "userError", "noDevice", "powerOff", "locked")


class Availability:
    """Adds up a run's time by what the terminal's own board says; without a daemon there is no board."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """By what kept the terminal from serving; the empty name is the time in which it could."""
        self.outages: list[tuple[str, float, float]] = []
        """Of the terminal, by cause, and of each component by its name: from when to when."""
        self._unwell: dict[str, float] = {}
        self._states: dict[str, str] | None = None
        self._since = 0.0
        self._cause = "daemon"

    def board(self, states: dict[str, str] | None, now: float) -> None:
        """Take the whole board as it is now; None without a daemon."""
        self._states = states
        for component in [*self._unwell, *(states or ())]:
            self._note(component, "" if states is None else states.get(component, ""), now)
        self._look(now)

    def change(self, component: str, state: str, now: float) -> None:
        """Take a change of the board."""
        if self._states is not None:
            self._states[component] = state
            self._note(component, state, now)
            self._look(now)

    def end(self, now: float) -> None:
        """Count up to now."""
        self._count(now)
        for component in [*self._unwell]:
            self._note(component, "", now)

    def state(self, component: str) -> str | None:
        """Return what the board tells of a component; None without a board."""
        return None if self._states is None else self._states.get(component)

    def times_unwell(self, now: float) -> list[tuple[str, float, float]]:
        """Return every outage so far, with those that last, by component or cause: from when to when."""
        lasting = [(component, since, now) for component, since in self._unwell.items()]
        return [*self.outages, *lasting, *([(self._cause, self._since, now)] if self._cause else [])]

    def unwell(self) -> list[str]:
        """Return every device and part that is not well; `daemon` without one."""
        if self._states is None:
            return ["daemon"]
        return [name for name, state in self._states.items() if state in _ILL]

    @property
    def share(self) -> float:
        """The share of the time in which it could serve."""
        total = sum(self.seconds.values())
        return self.seconds[""] / total if total else 0.0

    def _note(self, component: str, state: str, now: float) -> None:
        """Note when a component falls ill and when it recovers."""
        if state in _ILL:
            self._unwell.setdefault(component, now)
        elif (since := self._unwell.pop(component, None)) is not None:
            self.outages.append((component, since, now))

    def _look(self, now: float) -> None:
        cause = ""
        if self._states is None:
            cause = "daemon"
        else:
            cause = next((name for name in NEEDED if self._states.get(name) not in _WELL), "")
            if self._states.get("lockdown") == "locked":
                cause = "lockdown"
            if self._states.get("power") in _REFUSING:
                cause = "power"
        if cause != self._cause:
            self._count(now)
            self._cause = cause

    def _count(self, now: float) -> None:
        self.seconds[self._cause] += now - self._since
        if self._cause and now > self._since:
            self.outages.append((self._cause, self._since, now))
        self._since = now
