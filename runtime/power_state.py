"""What the UPS's readings mean for the terminal: a state machine without I/O and without a clock (T14).

| state | what it means | what ends it |
| --- | --- | --- |
| `unknown` | no UPS, or no good reading: nobody knows, and nothing is done about it (L10) | a good reading |
| `on_mains` | | the mains fail |
| `on_battery` | the mains failed | mains back and stayed; the runtime under the reserve |
| `low` | no session is opened, the one that is open has a deadline | mains back and stayed; the end is near |
| `going_down` | the plan for the end runs | mains back and stayed |
| `no_return` | keys are wiped: this process serves nobody again | nothing |
"""

from enum import StrEnum

from devices.ups.status import Source, UpsStatus
from runtime.power_settings import Power


class PowerState(StrEnum):
    """How the terminal stands with its power."""

    UNKNOWN = "unknown"
    ON_MAINS = "on_mains"
    ON_BATTERY = "on_battery"
    LOW = "low"
    GOING_DOWN = "going_down"
    NO_RETURN = "no_return"


_FAILED = {PowerState.ON_BATTERY, PowerState.LOW, PowerState.GOING_DOWN}


class PowerMachine:
    """The terminal's power as the readings of its UPS tell it, each with the time (monotonic) at which it is looked at.

    A runtime counts when two readings in a row say it: one that jumps is no event. A state that was reached on battery
    is not left for a better one before readings of `mains_back_seconds` say without a break that the mains are back. A
    battery test (`testing`) is no failure of the mains, and its low battery none of theirs (so does NUT's upsmon); one
    that begins on battery is no mains.
    """

    def __init__(self, settings: Power) -> None:
        self.state = PowerState.UNKNOWN
        self._on_battery_since: float | None = None
        self._settings = settings
        self._mains_since: float | None = None
        self._heard_at: float | None = None
        self._runtime: float | None = None
        self._runtime_before: float | None = None

    @property
    def is_returning(self) -> bool:
        """Whether the mains are back and have not stayed long enough to be relied on."""
        return self._mains_since is not None and self.state in _FAILED

    def look(self, reading: UpsStatus, now: float) -> PowerState:
        """Take what is known of the UPS now and return the state."""
        if self.state is PowerState.NO_RETURN:
            return self.state
        if reading.code is not None or reading.source is Source.UNKNOWN:
            self._know_nothing()
        elif reading.source is Source.ON_LINE or (reading.testing and self.state not in _FAILED):
            self._on_mains(now - (reading.age_seconds or 0.0))
        else:
            self._on_battery(reading, now)
        return self.state

    def pass_no_return(self) -> None:
        """Note that the keys are being wiped."""
        self.state = PowerState.NO_RETURN

    def _know_nothing(self) -> None:
        self._mains_since = self._heard_at = self._runtime = self._runtime_before = None
        if self.state is not PowerState.GOING_DOWN:  # that was decided on a good reading; nobody can say otherwise now
            self.state = PowerState.UNKNOWN
            self._on_battery_since = None

    def _on_mains(self, at: float) -> None:
        if self._mains_since is None:
            self._mains_since = at
        if self.state not in _FAILED or at - self._mains_since >= self._settings.mains_back_seconds:
            self.state = PowerState.ON_MAINS
            self._on_battery_since = None
        self._heard_at = self._runtime = self._runtime_before = None

    def _on_battery(self, reading: UpsStatus, now: float) -> None:
        self._mains_since = None
        if self._on_battery_since is None:
            self._on_battery_since = now
        at = now - (reading.age_seconds or 0.0)
        if self._heard_at is None or at > self._heard_at + 1e-3:
            self._heard_at, self._runtime_before, self._runtime = at, self._runtime, reading.runtime_seconds
        settings = self._settings
        left = self._on_battery_since + settings.longest_on_battery_seconds - now
        if reading.battery_low or self._is_below(settings.stop_seconds) or left <= 0:
            self.state = PowerState.GOING_DOWN
        elif self.state is not PowerState.GOING_DOWN:
            is_late = left <= settings.reserve_seconds - settings.stop_seconds
            is_low = self.state is PowerState.LOW or self._is_below(settings.reserve_seconds) or is_late
            self.state = PowerState.LOW if is_low else PowerState.ON_BATTERY

    def _is_below(self, limit: float) -> bool:
        """Whether the last two readings say that less than this is left."""
        last = (self._runtime, self._runtime_before)
        return all(runtime is not None and runtime < limit for runtime in last)
