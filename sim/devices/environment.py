"""The rig's environment unit: the other half of the Modbus RTU conversation (T14)."""

from devices.environment.protocol import (
    Answer,
    ExceptionCode,
    Function,
    Refusal,
    Request,
    RequestDecoder,
    encode_answer,
)
from sim.wire import NOISE, Verbs

HUMIDITY_REGISTER = 0
TEMPERATURE_REGISTER = 1
DOOR_INPUT = 0


class VirtualEnvironmentUnit:
    """A Modbus unit with a humidity and a temperature sensor (0.1 %RH, 0.1 °C) and a door contact."""

    def __init__(self, *, unit: int = 1) -> None:
        self.registers = {HUMIDITY_REGISTER: 450, TEMPERATURE_REGISTER: 231}
        self.inputs = {DOOR_INPUT: False}
        self._unit = unit
        self._decoder = RequestDecoder()
        self._silent = False
        self._refusals: list[int] = []
        self._garbage = 0

    @property
    def verbs(self) -> Verbs:
        """What can happen to the unit and the cabinet."""
        return {
            "set_humidity": self.set_humidity,
            "set_temperature": self.set_temperature,
            "open_door": self.open_door,
            "close_door": self.close_door,
            "silent": self.silent,
            "exception": self.exception,
            "garbage": self.garbage,
        }

    def set_humidity(self, percent: float) -> None:
        """Let the air in the cabinet have `percent` %RH."""
        self.registers[HUMIDITY_REGISTER] = round(percent * 10) & 0xFFFF

    def set_temperature(self, celsius: float) -> None:
        """Let the air in the cabinet have `celsius` °C."""
        self.registers[TEMPERATURE_REGISTER] = round(celsius * 10) & 0xFFFF

    def open_door(self) -> None:
        """Open the cabinet."""
        self.inputs[DOOR_INPUT] = True

    def close_door(self) -> None:
        """Close the cabinet."""
        self.inputs[DOOR_INPUT] = False

    def silent(self, *, silent: bool = True) -> None:
        """Let the unit answer nothing, or answer again."""
        self._silent = silent

    def exception(self, code: int = ExceptionCode.DEVICE_FAILURE, times: int = 1) -> None:
        """Let the next `times` requests be refused with an exception code."""
        self._refusals = [code] * times

    def garbage(self, times: int = 1) -> None:
        """Let the next `times` answers be noise."""
        self._garbage = times

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the answers; a unit is silent about what is not for it."""
        requests = [request for request in self._decoder.feed(data) if request.unit == self._unit]
        return b"" if self._silent else b"".join(map(self._reply, requests))

    def _reply(self, request: Request) -> bytes:
        if self._garbage:
            self._garbage -= 1
            return NOISE
        if self._refusals:
            return self._refuse(request, self._refusals.pop())
        wanted = range(request.address, request.address + request.count)
        if request.function == Function.READ_INPUT_REGISTERS and wanted and all(at in self.registers for at in wanted):
            data = b"".join(self.registers[at].to_bytes(2, "big") for at in wanted)
        elif request.function == Function.READ_DISCRETE_INPUTS and wanted and all(at in self.inputs for at in wanted):
            bits = sum(self.inputs[at] << place for place, at in enumerate(wanted))
            data = bits.to_bytes((request.count + 7) // 8, "little")
        else:
            known = request.function in {*Function}
            return self._refuse(request, ExceptionCode.ILLEGAL_ADDRESS if known else ExceptionCode.ILLEGAL_FUNCTION)
        return encode_answer(Answer(self._unit, request.function, data))

    def _refuse(self, request: Request, code: int) -> bytes:
        return encode_answer(Refusal(self._unit, request.function, code))
