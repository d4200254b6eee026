"""Driver of the environment unit (T14): humidity and temperature in the cabinet, and the contact of its door."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from devices.config import Environment
from devices.environment.protocol import (
    Answer,
    AnswerDecoder,
    ExceptionCode,
    Function,
    Refusal,
    Request,
    encode_request,
)
from devices.errors import DeviceError
from devices.link import OpenLink
from devices.sensor import Reading, Sensor
from devices.status import DeviceState, DeviceStatus, StatusListener

ANSWER_SECONDS = 1.0
"""The serial line specification gives a unit one second or more; its bytes' time on the wire is added."""
DRIEST = 10.0
WETTEST = 80.0
"""The site's humidity in %RH (T14)."""
MARGIN = 2.0
"""So far within the limits a humidity that was out of range is in range again: it does not flicker at a limit."""

_LONGEST_ANSWER = 255
_HUMIDITY = (0, 1000)
_TEMPERATURE = (-400, 1250)
"""What a sensor can mean, in tenths; units say 7FFF, 8000 or FFFF for a sensor that is broken or missing."""

Frame = Answer | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate(Reading):
    """The cabinet as the unit told it `age_seconds` ago; what it did not say is None."""

    humidity_percent: float | None = None
    temperature_celsius: float | None = None
    door_open: bool | None = None
    humidity_out_of_range: bool | None = None


class EnvironmentUnit(Sensor[Frame, Climate]):
    """A supervised environment unit. A change of the door or of the humidity flag is a change of `status`.

    Modbus answers carry no number. Registers and inputs are asked one after the other, and after a missing or damaged
    answer the other of the two comes first, so a late answer is never taken for a new one.
    """

    kind = "environment"
    unknown = Climate(code="environment.stale")
    CAPABILITIES: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "interface": "Auxiliaries",
        "cabinetDoor": ("open", "closed"),
        "measures": ("humidity", "temperature"),
    }
    """In the words of XFS4IoT, which has none for the climate."""

    def __init__(self, settings: Environment, open_link: OpenLink, on_status: StatusListener) -> None:
        self._settings = settings
        super().__init__(
            settings.port,
            settings.baud,
            open_link,
            on_status,
            poll_seconds=settings.poll_seconds,
            stale_seconds=settings.stale_seconds,
        )
        self._first_register = min(settings.humidity_register, settings.temperature_register)
        self._registers = max(settings.humidity_register, settings.temperature_register) - self._first_register + 1
        self._order = (Function.READ_INPUT_REGISTERS, Function.READ_DISCRETE_INPUTS)
        """How the next poll begins: never with the question whose answer is missing."""
        self._out_of_range: bool | None = None

    def _make_decoder(self) -> AnswerDecoder:
        return AnswerDecoder(self._settings.unit)

    async def _open(self) -> DeviceStatus:
        return await self._check_first()

    async def _read(self) -> Climate:
        first, second = self._order
        self._order = (second, first)
        data = {first: await self._exchange(first)}
        self._order = (first, second)
        data[second] = await self._exchange(second)
        settings, registers = self._settings, data[Function.READ_INPUT_REGISTERS]
        humidity = self._tenths(registers, settings.humidity_register, _HUMIDITY)
        return Climate(
            humidity_percent=humidity,
            temperature_celsius=self._tenths(registers, settings.temperature_register, _TEMPERATURE),
            door_open=bool(data[Function.READ_DISCRETE_INPUTS][0] & 1),
            humidity_out_of_range=self._judge(humidity),
        )

    async def _exchange(self, function: Function) -> bytes:
        """Ask for all registers or for the door, and return the data of the answer."""
        settings = self._settings
        address, count, size = self._first_register, self._registers, 2 * self._registers
        if function is Function.READ_DISCRETE_INPUTS:
            address, count, size = settings.door_input, 1, 1

        def answers(frame: Frame) -> bool:
            return frame.function == function and (isinstance(frame, Refusal) or len(frame.data) == size)

        self._decoder.reset()
        request = encode_request(Request(settings.unit, function, address, count))
        seconds = ANSWER_SECONDS + (len(request) + _LONGEST_ANSWER) * 11 / settings.baud
        answer = await self.ask(request, answers, seconds=seconds)
        if isinstance(answer, Refusal):
            raise self._refused(answer)
        return answer.data

    def _tenths(self, registers: bytes, register: int, limits: tuple[int, int]) -> float | None:
        """Return a register in tenths; None when it says that there is no sensor, or what none can mean."""
        at = 2 * (register - self._first_register)
        value = int.from_bytes(registers[at : at + 2], "big", signed=True)
        return value / 10 if limits[0] <= value <= limits[1] else None

    def _judge(self, humidity: float | None) -> bool | None:
        """Return whether a humidity is out of the site's range; None when it is not known."""
        margin = MARGIN if self._out_of_range else 0.0
        self._out_of_range = None if humidity is None else not DRIEST + margin <= humidity <= WETTEST - margin
        return self._out_of_range

    def _describe(self, reading: Climate) -> DeviceStatus:
        details: dict[str, str | bool] = {}
        if reading.door_open is not None:
            details["cabinetDoor"] = "open" if reading.door_open else "closed"
        if reading.humidity_out_of_range is not None:
            details["humidity_out_of_range"] = reading.humidity_out_of_range
        code = None
        if reading.humidity_percent is None or reading.temperature_celsius is None:
            code = "environment.sensor_missing"
        if reading.humidity_out_of_range:
            code = "environment.humidity_out_of_range"
        return DeviceStatus(DeviceState.ONLINE, code, details=details)

    def _is_calm(self, status: DeviceStatus) -> bool:
        """Whether the door is closed and nothing is amiss."""
        return super()._is_calm(status) and status.details.get("cabinetDoor") == "closed"

    def _refused(self, refusal: Refusal) -> DeviceError:
        message = f"the unit refuses function {refusal.function:02X} with exception {refusal.code:02X}"
        if refusal.code in {ExceptionCode.ILLEGAL_FUNCTION, ExceptionCode.ILLEGAL_ADDRESS, ExceptionCode.ILLEGAL_VALUE}:
            advice = "compare the registers and the input of [environment] with the unit's manual"
            return self.error("bad_setting", message, advice=advice, retry=False)
        if refusal.code == ExceptionCode.DEVICE_FAILURE:
            advice = "check the unit's sensors; it is tried again by itself"
            return self.error("sensor_failed", message, advice=advice, retry=True)
        return self.error("refused", message, advice="none: it is tried again by itself", retry=True)
