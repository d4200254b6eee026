"""What is known of the UPS, the same for every protocol (T14)."""

from dataclasses import dataclass
from enum import StrEnum

from devices.config import Ups as UpsSettings
from devices.sensor import Reading

_CELL_FULL_VOLTS = 2.28
"""Of one lead-acid cell on float charge; it tells the number of cells from the voltage of the full battery."""
_PLAUSIBLE = (0.8, 1.2)
"""A battery below 0.8 times empty or above 1.2 times full is not the one that was configured."""


class Source(StrEnum):
    """Where the terminal's power comes from."""

    ON_LINE = "on_line"
    ON_BATTERY = "on_battery"
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """Where the runtime comes from."""

    UPS = "ups"
    CHARGE = "estimate from battery charge at configured runtime"
    VOLTAGE = "estimate from battery voltage at configured runtime"


class UpsFault(StrEnum):
    """What is wrong with the UPS itself, the worst first."""

    FAILED = "failed"
    OUTPUT_OFF = "output_off"
    OVERLOAD = "overload"
    REPLACE_BATTERY = "replace_battery"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsStatus(Reading):
    """The UPS as it answered `age_seconds` ago; what it did not say is None.

    `charge` and `load` are fractions (a load above 1 is an overload). `battery_low` is the UPS's own flag, never
    derived from a charge. `testing` is a battery test under way, `shutting_down` an output that is about to be cut.
    """

    source: Source = Source.UNKNOWN
    battery_low: bool | None = None
    charge: float | None = None
    runtime_seconds: float | None = None
    runtime_basis: Basis | None = None
    load: float | None = None
    input_volts: float | None = None
    battery_volts: float | None = None
    temperature_celsius: float | None = None
    testing: bool | None = None
    shutting_down: bool | None = None
    faults: tuple[UpsFault, ...] | None = None


STALE = UpsStatus(code="ups.stale")
"""No good answer for too long: everything is unknown, nothing is low (L10)."""


def battery_cells(settings: UpsSettings) -> int:
    """Return how many lead-acid cells the configured battery has, for a UPS that tells the voltage of one."""
    return max(1, round(settings.battery_full_volts / _CELL_FULL_VOLTS))


def estimate_charge(volts: float | None, settings: UpsSettings) -> float | None:
    """Return the charge that a battery voltage stands for; None when it is not the configured battery's."""
    empty, full = settings.battery_empty_volts, settings.battery_full_volts
    if volts is None or not _PLAUSIBLE[0] * empty <= volts <= _PLAUSIBLE[1] * full:
        return None
    return min(1.0, max(0.0, (volts - empty) / (full - empty)))
