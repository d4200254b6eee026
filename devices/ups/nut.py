"""Driver of a UPS behind a NUT server (T14, protocols 4.4)."""

import asyncio
import math
from collections.abc import Callable, Mapping

from devices.config import Ups as UpsSettings
from devices.errors import DeviceError
from devices.link import OpenLink
from devices.status import DeviceStatus, StatusListener
from devices.ups.driver import Ups
from devices.ups.nut_protocol import Listing, Words, WordsDecoder, encode_line, error_of, parse_address
from devices.ups.status import Source, UpsFault, UpsStatus

ANSWER_SECONDS = 2.0
"""A server on the same board answers in milliseconds; it waits itself for a slow driver to take an order."""

LONGEST_DELAY_SECONDS = 3600
_DELAY = "ups.delay.shutdown"
_DELAY_LOOKS = 10
_DELAY_SECONDS = 0.2
_FAULTS = {
    "OFF": UpsFault.OUTPUT_OFF,
    "OVER": UpsFault.OVERLOAD,
    "RB": UpsFault.REPLACE_BATTERY,
    "BYPASS": UpsFault.BYPASS,
}
_ACCESS = ("ACCESS-DENIED", "INVALID-PASSWORD", "INVALID-USERNAME", "USERNAME-REQUIRED", "PASSWORD-REQUIRED")
_UNSUPPORTED = ("CMD-NOT-SUPPORTED", "VAR-NOT-SUPPORTED", "READONLY", "UNKNOWN-COMMAND", "FEATURE-NOT-SUPPORTED")
_SERVER_STALE = ("DATA-STALE", "DRIVER-NOT-CONNECTED")


class NutUps(Ups[Words]):
    """A supervised UPS behind a NUT server at `nut://USER@HOST:PORT/UPS`.

    The server answers in order and without numbers. After an answer that did not come, or that nobody waited for, it is
    asked for the description of a variable with a new name, which its answer repeats: whatever comes before is old.
    """

    def __init__(
        self, settings: UpsSettings, open_link: OpenLink, on_status: StatusListener, *, password: str = ""
    ) -> None:
        self._address = parse_address(settings.port)
        super().__init__(self._address.link, settings, open_link, on_status)
        self._password = password
        self._in_step = False
        self._marks = 0

    def _make_decoder(self) -> WordsDecoder:
        return WordsDecoder()

    async def _open(self) -> DeviceStatus:
        """Log in when there is a user, which proves the password and counts the terminal as a client of the UPS."""
        self._in_step = True
        if self._address.user is not None:
            await self._say("USERNAME", self._address.user)
            await self._say("PASSWORD", self._password)
            await self._say("LOGIN", self._address.ups)
        return await self._check_first()

    async def _read(self) -> UpsStatus:
        listing = Listing(self._address.ups)
        await self._exchange(("LIST", "VAR", self._address.ups), listing.take)
        if listing.error is not None:
            raise self._refused(listing.error)
        values = listing.variables
        words = frozenset(values.get("ups.status", "WAIT").split())
        if "WAIT" in words:
            raise self._refused("DATA-STALE")
        names = ("ups.mfr", "ups.model", "ups.serial")
        self._identity = " ".join(filter(None, (values.get(name, "").strip() for name in names))) or None
        return self._with_estimate(_translate(words, values))

    async def _shut_down(self, delay_seconds: float) -> None:
        """Set the driver's delay and order the cut; refuse when the delay cannot be had.

        Drivers round the delay down to what their UPS can, so it is rounded up before, in the steps of Megatec. The
        server says OK when it has passed the value on, before the driver has taken it.
        """
        if not 0 <= delay_seconds <= LONGEST_DELAY_SECONDS:
            raise self._delay_unsupported(f"a delay of {delay_seconds} s is not wanted")
        name, step = self._address.ups, 6 if delay_seconds <= 54 else 60
        wanted = max(12, math.ceil(delay_seconds / step) * step)
        try:
            await self._say("SET", "VAR", name, _DELAY, str(wanted))
        except DeviceError as error:
            if error.retry:
                raise
        for _ in range(_DELAY_LOOKS):
            if await self._delay() >= wanted:
                break
            await asyncio.sleep(_DELAY_SECONDS)
        else:
            raise self._delay_unsupported(f"the UPS cuts earlier than after {wanted} s")
        await self._say("INSTCMD", name, "shutdown.return")

    async def _delay(self) -> float:
        """Return the seconds after which the driver cuts, 0 when it does not tell."""
        try:
            found = await self._say("GET", "VAR", self._address.ups, _DELAY)
        except DeviceError as error:
            if error.retry:
                raise
            return 0
        return _number({_DELAY: found[-1]}, _DELAY) or 0

    async def _cancel(self) -> None:
        await self._say("INSTCMD", self._address.ups, "shutdown.stop")

    async def _test(self) -> None:
        await self._say("INSTCMD", self._address.ups, "test.battery.start.quick")

    async def _say(self, *words: str) -> Words:
        """Say a line and return the answer; raise DeviceError when it is an error."""
        answer = await self._exchange(words, lambda _: True)
        problem = error_of(answer)
        if problem is not None:
            raise self._refused(problem)
        return answer

    async def _exchange(self, words: Words, answers: Callable[[Words], bool]) -> Words:
        if not self._in_step:
            await self._catch_up()
        self._in_step = False
        answer = await self.ask(encode_line(*words), answers, seconds=ANSWER_SECONDS)
        self._in_step = True
        return answer

    async def _catch_up(self) -> None:
        """Let all answers to earlier questions pass."""
        self._marks += 1
        self._decoder.reset()
        name, mark = self._address.ups, f"govterm.mark.{self._marks}"
        question = encode_line("GET", "DESC", name, mark)
        await self.ask(question, lambda words: words[:3] == ("DESC", name, mark), seconds=ANSWER_SECONDS)

    def _refused(self, problem: str) -> DeviceError:
        name = self._address.ups
        if problem in _SERVER_STALE:
            return self.error("stale", f"the server has no data: {problem}", advice="see the log of NUT", retry=True)
        if problem == "UNKNOWN-UPS":
            advice = "compare [ups] port with the server's ups.conf"
            return self.error("unknown_ups", f"the server has no UPS {name}", advice=advice, retry=False)
        if problem in _ACCESS:
            advice = "compare [ups] port and password_file with the server's upsd.users"
            return self.error("access_denied", f"the server refuses: {problem}", advice=advice, retry=False)
        if problem in _UNSUPPORTED:
            advice = "see `upscmd -l` for what the UPS can do"
            return self.error("unsupported", f"the UPS cannot: {problem}", advice=advice, retry=False)
        return self.error("refused", f"the server refuses: {problem}", advice="see the log of NUT", retry=True)

    def _delay_unsupported(self, message: str) -> DeviceError:
        advice = f"set offdelay in the server's ups.conf, or allow the user to set {_DELAY}"
        return self.error("delay_unsupported", message, advice=advice, retry=False)


def _translate(words: frozenset[str], values: Mapping[str, str]) -> UpsStatus:
    sources = [source for word, source in (("OL", Source.ON_LINE), ("OB", Source.ON_BATTERY)) if word in words]
    faults = [fault for word, fault in _FAULTS.items() if word in words]
    charge, load = _number(values, "battery.charge"), _number(values, "ups.load")
    temperature = _number(values, "ups.temperature")
    return UpsStatus(
        source=sources[0] if len(sources) == 1 else Source.UNKNOWN,
        battery_low="LB" in words,
        charge=None if charge is None else min(1.0, max(0.0, charge / 100)),
        runtime_seconds=_number(values, "battery.runtime"),
        load=None if load is None else load / 100,
        input_volts=_number(values, "input.voltage"),
        battery_volts=_number(values, "battery.voltage"),
        temperature_celsius=_number(values, "battery.temperature") if temperature is None else temperature,
        testing="CAL" in words or values.get("ups.test.result", "").casefold().startswith("in progress"),
        shutting_down="FSD" in words,
        faults=tuple(faults),
    )


def _number(values: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(values[name])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None
