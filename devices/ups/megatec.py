"""Driver of a UPS that speaks Megatec on a serial line (T14, protocols 4.1 to 4.3)."""

from collections.abc import Callable

from devices.config import Ups as UpsSettings
from devices.errors import DeviceError
from devices.link import OpenLink
from devices.status import DeviceStatus, StatusListener
from devices.ups.driver import Ups
from devices.ups.megatec_protocol import (
    LONGEST_DELAY_SECONDS,
    Bits,
    Frame,
    Identity,
    Line,
    LineDecoder,
    Ratings,
    Status,
    encode_command,
    shutdown_command,
)
from devices.ups.status import Source, UpsFault, UpsStatus, battery_cells

ANSWER_SECONDS = 0.8
"""What the UPS may think; its answer's bytes take longer than that at 2400 baud only when it is broken."""
_LONGEST_ANSWER = 47
_QUERIES = ("Q1", "QS")
_CONFIRMATIONS = 3
"""How many more answers may be asked for until two say the same."""
_TAKEN, _REFUSED = Line("ACK"), Line("NAK")
_BYPASS_RATIO = (0.95, 1.05)
"""Output over input at which b5 is a bypass; otherwise it is the voltage regulator, which is no fault (NUT)."""


class MegatecUps(Ups[Frame]):
    """A supervised UPS on a serial line.

    The protocol has neither checksum nor numbers, so status bits that changed, and any after a bad answer, are
    believed only when the next answer says the same: a flipped bit or a late answer is no power failure. Who it is must
    be said twice too: a flipped letter makes no other UPS.
    """

    def __init__(self, settings: UpsSettings, open_link: OpenLink, on_status: StatusListener) -> None:
        super().__init__(settings.port, settings, open_link, on_status)
        self._seconds = ANSWER_SECONDS + _LONGEST_ANSWER * 10 / settings.baud
        self._cells = battery_cells(settings)
        self._query: str | None = None
        self._bits: Bits | None = None
        self._believed: dict[str, Frame] = {}

    def _make_decoder(self) -> LineDecoder:
        return LineDecoder()

    async def _open(self) -> DeviceStatus:
        """Find out whether the UPS speaks Q1 or QS, and who it is; only a status is needed."""
        known, self._identity = self._identity, None
        self._bits = None
        self._query = await self._find_query()
        identity = await self._said_twice("I", _is_identity)
        if isinstance(identity, Identity):
            words = (identity.company, identity.model, identity.version)
            self._identity = " ".join(filter(None, words)) or None
        if self._rating is None or self._identity is None or self._identity != known:
            ratings = await self._said_twice("F", _is_ratings)
            self._rating = _in_words(ratings) if isinstance(ratings, Ratings) else None
        return await self._check_first()

    async def _said_twice(self, command: str, answers: Callable[[Frame], bool]) -> Frame | None:
        """Return the answer that came twice; None when none did, or when two questions had no answer.

        What was believed in an earlier life counts as said once: a UPS that is plugged in again is known sooner.
        """
        heard = [self._believed[command]] if command in self._believed else []
        silent = 0
        for _ in range(1 + _CONFIRMATIONS):
            try:
                answer = await self.ask(encode_command(command), answers, seconds=self._seconds)
            except DeviceError:
                silent += 1
                if silent > 1:
                    break
                continue
            if answer in heard:
                self._believed[command] = answer
                return answer
            heard.append(answer)
        return None

    async def _read(self) -> UpsStatus:
        before, self._bits = self._bits, None
        status = await self._status()
        for _ in range(_CONFIRMATIONS):
            if status.bits == before:
                break
            before, status = status.bits, await self._status()
        if status.bits != before:
            raise self._garbled("its answers differ")
        self._bits = status.bits
        return self._with_estimate(self._translate(status))

    async def _shut_down(self, delay_seconds: float) -> None:
        try:
            command = shutdown_command(delay_seconds)
        except ValueError as error:
            advice = f"ask for at most {LONGEST_DELAY_SECONDS} s"
            raise self.error("delay_unsupported", str(error), advice=advice, retry=False) from None
        await self._command(command)

    async def _cancel(self) -> None:
        await self._command("C")

    async def _test(self) -> None:
        await self._command("T")

    async def _command(self, text: str) -> None:
        """Send an order. It has no answer, or ACK; a UPS that does not know it sends it back or says NAK."""
        try:
            answers = {Line(text), _TAKEN, _REFUSED}
            answer = await self.ask(encode_command(text), lambda frame: frame in answers, seconds=self._seconds)
        except DeviceError as error:
            if error.code == "ups.no_answer":
                return
            raise
        if answer != _TAKEN:
            advice = "see the manual of the UPS for what it can do"
            raise self.error("unsupported", f"the UPS does not know {text}", advice=advice, retry=False)

    async def _find_query(self) -> str:
        """Return the query that the UPS answers, the one of its last life first."""
        queries = sorted(_QUERIES, key=lambda each: each != self._query)
        for query in [*queries, *queries[:1]]:
            try:
                if isinstance(await self._ask_status(query), Status):
                    return query
            except DeviceError as error:
                failure = error
            else:
                failure = self._garbled("neither Q1 nor QS is known")
        raise failure

    async def _status(self) -> Status:
        answer = await self._ask_status(self._query or _QUERIES[0])
        if not isinstance(answer, Status):
            raise self._garbled("the status query came back")
        return answer

    async def _ask_status(self, query: str) -> Frame:
        """Return a status, or the echo of a query that the UPS does not know."""

        def answers(frame: Frame) -> bool:
            return isinstance(frame, Status) or frame == Line(query)

        return await self.ask(encode_command(query), answers, seconds=self._seconds)

    def _garbled(self, message: str) -> DeviceError:
        return self.error("garbled", message, advice="check the cable", retry=True)

    def _translate(self, status: Status) -> UpsStatus:
        bits, volts = status.bits, status.battery_volts
        faults = []
        if bits & Bits.FAILED:
            faults.append(UpsFault.FAILED)
        if status.load_percent is not None and status.load_percent > 100:
            faults.append(UpsFault.OVERLOAD)
        if bits & Bits.BYPASS and _is_bypass(status):
            faults.append(UpsFault.BYPASS)
        return UpsStatus(
            source=Source.ON_BATTERY if bits & Bits.UTILITY_FAIL else Source.ON_LINE,
            battery_low=bool(bits & Bits.BATTERY_LOW),
            load=None if status.load_percent is None else status.load_percent / 100,
            input_volts=status.input_volts,
            battery_volts=round(volts * self._cells, 2) if volts is not None and status.per_cell else volts,
            temperature_celsius=status.temperature,
            testing=bool(bits & Bits.TESTING),
            shutting_down=bool(bits & Bits.SHUTTING_DOWN),
            faults=tuple(faults),
        )


def _is_bypass(status: Status) -> bool:
    if not status.input_volts or status.output_volts is None:
        return False
    low, high = _BYPASS_RATIO
    return low <= status.output_volts / status.input_volts < high


def _is_ratings(frame: Frame) -> bool:
    return isinstance(frame, Ratings) or frame == Line("F")


def _in_words(ratings: Ratings) -> str:
    return f"{ratings.volts} V, {ratings.amperes} A, battery {ratings.battery_volts} V, {ratings.hertz} Hz"


def _is_identity(frame: Frame) -> bool:
    return isinstance(frame, Identity) or frame == Line("I")
