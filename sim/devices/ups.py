"""The rig's UPS: the other half of the Megatec conversation (protocols 4.1 to 4.3), and its battery."""

import re
from collections.abc import Callable

from devices.ups.megatec_protocol import (
    Bits,
    CommandDecoder,
    Identity,
    Ratings,
    Status,
    encode_command,
    encode_identity,
    encode_ratings,
    encode_status,
)
from sim.wire import NOISE, Verbs

RATINGS = Ratings(220.0, 4, 24.0, 50.0)
IDENTITY = Identity("SANTAK", "C1K", "VER 1.0")

_MAINS_VOLTS = 221.3
_FULL_VOLTS = 27.4
_EMPTY_VOLTS = 21.0
_LOW_CHARGE = 0.2
_RECHARGE = 10
"""Charging takes this many times longer than discharging."""
_CELLS = 12
_TEST_SECONDS = 10.0
_SHUTDOWN = re.compile(r"S(\.[2-9]|0[1-9]|10)(?:R(\d{4}))?")
_TEST = re.compile(r"T(\d\d|L)?")


class VirtualMegatecUps:
    """A line-interactive UPS, its battery and the mains. `clock` gives seconds, virtual or not.

    On battery it discharges by the clock; an empty battery, or a shutdown, takes the output and the voice away. It
    speaks `query` (Q1 or QS), sends back what it does not know, and says the volts of one cell when `per_cell`.
    """

    def __init__(
        self, clock: Callable[[], float], *, minutes: float = 30.0, query: str = "Q1", per_cell: bool = False
    ) -> None:
        self.orders: list[str] = []
        self.ratings = encode_ratings(RATINGS)
        self.identity = encode_identity(IDENTITY)
        self._clock = clock
        self._minutes = minutes
        self._query = query
        self._per_cell = per_cell
        self._decoder = CommandDecoder()
        self._mains = self._output = True
        self._beeper = True
        self._failed = self._forced_low = self._silent = False
        self._garbage = 0
        self._charge = 1.0
        self._seen = clock()
        self._test_until = self._seen
        self._cut_at: float | None = None
        self._return_at: float | None = None
        self._return_seconds = 0.0

    @property
    def verbs(self) -> Verbs:
        """What can happen to the UPS."""
        return {
            "mains_off": self.mains_off,
            "mains_on": self.mains_on,
            "battery_low": self.battery_low,
            "set_battery": self.set_battery,
            "discharge": self.discharge,
            "silent": self.silent,
            "garbage": self.garbage,
            "fail": self.fail,
            "beeper": self.beeper,
        }

    @property
    def output_on(self) -> bool:
        """Whether the terminal has power."""
        self._live()
        return self._output

    def mains_off(self) -> None:
        """Take the mains away."""
        self._live()
        self._mains = False

    def mains_on(self) -> None:
        """Give the mains again; a UPS that was cut returns when its time has come."""
        self._live()
        self._mains = True
        self._live()

    def battery_low(self, *, low: bool = True) -> None:
        """Raise the flag of a low battery, whatever its charge, or leave it to the charge again."""
        self._forced_low = low

    def set_battery(self, volts: float) -> None:
        """Set the battery to the charge at which it has `volts`."""
        self._live()
        self._charge = min(1.0, max(0.0, (volts - _EMPTY_VOLTS) / (_FULL_VOLTS - _EMPTY_VOLTS)))

    def discharge(self, minutes: float) -> None:
        """Let a full battery last `minutes` from now on; raise ValueError when that is not more than 0."""
        if minutes <= 0:
            raise ValueError("a battery lasts more than 0 minutes")
        self._live()
        self._minutes = minutes

    def silent(self, *, silent: bool = True) -> None:
        """Let the UPS answer nothing, or answer again: what is known of it grows stale."""
        self._silent = silent

    def garbage(self, times: int = 1) -> None:
        """Let the next `times` answers be noise."""
        self._garbage = times

    def fail(self, *, failed: bool = True) -> None:
        """Let the UPS report a fault of its own, or mend it."""
        self._failed = failed

    def beeper(self, *, on: bool = True) -> None:
        """Switch the beeper."""
        self._beeper = on

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the answers."""
        return b"".join(map(self._answer, self._decoder.feed(data)))

    def _answer(self, command: str) -> bytes:
        self._live()
        if self._silent or not (self._output or self._mains):
            return b""
        answer = self._reply(command)
        if answer and self._garbage:
            self._garbage -= 1
            return NOISE * 8 + b"\r"
        return answer

    def _reply(self, command: str) -> bytes:
        if command == self._query:
            return encode_status(self._status())
        if command == "F":
            return self.ratings
        if command == "I":
            return self.identity
        return b"" if self._obey(command) else encode_command(command)

    def _obey(self, command: str) -> bool:
        """Do what has no answer; tell whether the command is known."""
        now = self._clock()
        if shutdown := _SHUTDOWN.fullmatch(command):
            self._cut_at = now + float(shutdown[1]) * 60
            self._return_seconds = int(shutdown[2] or 0) * 60
        elif command == "C":
            self._cut_at = None
        elif test := _TEST.fullmatch(command):
            minutes = {None: _TEST_SECONDS / 60, "L": self._minutes}
            self._test_until = now + 60 * (minutes[test[1]] if test[1] in minutes else int(test[1]))
        elif command == "CT":
            self._test_until = now
        elif command == "Q":
            self._beeper = not self._beeper
        else:
            return False
        self.orders.append(command)
        return True

    def _live(self) -> None:
        """Let the time pass since the last look."""
        now = self._clock()
        share = (now - self._seen) / (self._minutes * 60)
        self._seen = now
        if self._mains:
            self._charge = min(1.0, self._charge + share / _RECHARGE)
        elif self._output:
            self._charge = max(0.0, self._charge - share)
        if self._cut_at is not None and now >= self._cut_at:
            self._output, self._return_at, self._cut_at = False, self._cut_at + self._return_seconds, None
        if not self._mains and self._charge == 0 and self._output:
            self._output, self._return_at, self._cut_at = False, now, None
        if self._mains and not self._output and self._return_at is not None and now >= self._return_at:
            self._output = True

    def _status(self) -> Status:
        battery = _EMPTY_VOLTS + self._charge * (_FULL_VOLTS - _EMPTY_VOLTS)
        flags = {
            Bits.UTILITY_FAIL: not self._mains,
            Bits.BATTERY_LOW: self._forced_low or self._charge < _LOW_CHARGE,
            Bits.FAILED: self._failed,
            Bits.LINE_INTERACTIVE: True,
            Bits.TESTING: self._clock() < self._test_until,
            Bits.SHUTTING_DOWN: self._cut_at is not None,
            Bits.BEEPER: self._beeper,
        }
        bits = Bits(0)
        for bit, on in flags.items():
            bits |= bit if on else Bits(0)
        return Status(
            input_volts=_MAINS_VOLTS if self._mains else 0.0,
            fault_volts=_MAINS_VOLTS if self._mains else 0.0,
            output_volts=220.0 if self._output else 0.0,
            load_percent=12,
            hertz=50.0,
            battery_volts=battery / _CELLS if self._per_cell else battery,
            per_cell=self._per_cell,
            temperature=27.0,
            bits=bits,
        )
