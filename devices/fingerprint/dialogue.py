"""Talking to the module: commands that may be lost and asked again, data both ways, and staying in step.

The protocol numbers nothing, and nearly every answer is one byte. So a late or doubled answer is told from the
right one by order alone: the module answers in order, and only READ_PARAMETERS has an answer of its own shape.
Asking it is a fence: when it is answered, everything asked before is through.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from devices.config import Fingerprint
from devices.driver import Driver
from devices.errors import DeviceError
from devices.fingerprint import protocol
from devices.fingerprint.errors import refused
from devices.fingerprint.protocol import Code, Command, Packet, PacketDecoder, Parameters, Pid, Upload
from devices.link import OpenLink
from devices.status import StatusListener

T = TypeVar("T")

ANSWER_SECONDS = 1.5
"""Deadline of an answer, to which the time of its bytes on the wire is added."""
GAP_SECONDS = 0.5
"""Between two packets of an upload, to which the time of four packets on the wire is added."""
_TRIES = 4
_LINE_TROUBLE = frozenset({"fingerprint.no_answer", "fingerprint.garbled"})
_LONGEST_PACKET = protocol.PACKET_OVERHEAD + protocol.LONGEST_PAYLOAD
_ALWAYS_REFUSALS = frozenset({Code.WRONG_ADDRESS, Code.NOT_VERIFIED, Code.PACKET_ERROR})
"""Codes that mean the same whatever was asked."""


class Dialogue(Driver[Packet]):
    """The exchanges with a module. Whoever calls them holds the lock."""

    kind = "fingerprint"

    def __init__(self, settings: Fingerprint, open_link: OpenLink, on_status: StatusListener) -> None:
        super().__init__(settings.port, settings.baud, open_link, on_status)
        self._settings = settings
        self._in_step = False
        self._strays: deque[int] = deque(maxlen=16)
        self._data_at = -1.0
        self._packet_bytes = 128

    def _make_decoder(self) -> PacketDecoder:
        return PacketDecoder()

    def _unasked(self, frame: Packet) -> None:
        """Note an answer that nobody waits for, and when data were last on the wire."""
        if frame.pid == Pid.ACK:
            self._strays.append(frame.code)
        else:
            self._data_at = asyncio.get_running_loop().time()
        frame.wipe()

    async def _command(
        self,
        command: Command,
        parameters: bytes = b"",
        answers: Callable[[Packet], bool] = protocol.is_plain,
    ) -> Packet:
        """Return the answer to `command`, asked again when it is lost: every command here may be repeated."""
        return await self._persist(lambda: self._exchange(command, parameters, answers))

    async def _fence(self) -> Parameters:
        """Wait until everything asked before is through; return the module's parameters."""
        answer = await self._exchange(Command.READ_PARAMETERS, answers=protocol.is_parameters)
        parameters = protocol.decode_parameters(answer)
        self._packet_bytes = parameters.packet_bytes
        return parameters

    async def _prove(self) -> None:
        """Fence, and make certain that no answer was left over since `_strays` was cleared.

        Raises `fingerprint.garbled` when one was: then some answer may have been taken for another command's.
        """
        await self._fence()
        if self._strays:
            raise self._garbled()

    async def _set_security_level(self) -> Parameters:
        """Give the module the configured level, and read back that it took it."""
        level = self._settings.security_level
        answer = await self._command(Command.SET_PARAMETER, bytes([protocol.SECURITY_LEVEL, level]))
        if answer.code != Code.OK:
            raise refused(answer.code)
        parameters = await self._persist(self._fence)
        if parameters.security_level != level:
            raise refused(Code.BAD_REGISTER)
        return parameters

    async def _shake_hands(self) -> Command | None:
        """Return the handshake this module knows: R503 parts 40, clones 53 (protocols 2, quirks); None for neither."""
        for command, good in ((Command.HANDSHAKE, Code.OK), (Command.CHECK_SENSOR, Code.READY)):
            with suppress(DeviceError):
                answer = await self._exchange(command)
                if answer.code == good:
                    return command
        return None

    async def _upload(self, command: Command, parameters: bytes, sizes: range) -> bytearray:
        """Return what the module sends after `command`, a number of bytes in `sizes`; the caller wipes it."""

        async def once() -> bytearray:
            upload = Upload(sizes[-1])
            loop = asyncio.get_running_loop()
            gap_seconds = GAP_SECONDS + self._wire_seconds(4 * _LONGEST_PACKET)
            if not self._in_step:
                await self._quiet()  # what is left of a damaged upload may take longer than a gap
            try:
                async with asyncio.timeout(ANSWER_SECONDS) as gap:

                    def take(packet: Packet) -> bool:
                        if not gap.expired():
                            gap.reschedule(loop.time() + gap_seconds)
                        return upload.take(packet)

                    seconds = 2 * self._data_seconds(sizes[-1])
                    last = await self._exchange(command, parameters, take, seconds=seconds)
            except BaseException as error:
                upload.wipe()
                if isinstance(error, TimeoutError):
                    raise self._no_answer() from None
                raise
            pid, code = last.pid, last.code
            last.wipe()
            if pid == Pid.LAST and len(upload.data) in sizes:
                return upload.data
            upload.wipe()
            self._in_step = pid != Pid.DATA
            raise refused(code) if pid == Pid.ACK else self._garbled()

        return await self._persist(once)

    async def _download(self, buffer: int, data: bytes | memoryview) -> None:
        """Put features into a buffer of the module, and wait until it is through with them."""

        async def once() -> None:
            self._strays.clear()
            answer = await self._exchange(Command.DOWNLOAD_CHARACTERS, bytes([buffer]))
            if answer.code != Code.OK:
                raise refused(answer.code)
            self._in_step = False
            await self.tell(protocol.encode_data(data, self._packet_bytes, self._settings.address))
            await self._fence()
            if any(self._strays):  # some modules confirm the data too, so an OK means nothing here
                raise self._garbled()

        await self._persist(once)

    async def _exchange(
        self,
        command: Command,
        parameters: bytes = b"",
        answers: Callable[[Packet], bool] = protocol.is_plain,
        *,
        seconds: float = 0.0,
    ) -> Packet:
        """Ask once, forgetting half a packet first (protocols 2, quirks). `seconds` are added to the deadline."""
        if not self._in_step:
            await self._quiet()
        self._in_step = False
        self._decoder.reset()
        request = protocol.encode_command(command, parameters, self._settings.address)
        seconds += ANSWER_SECONDS + self._wire_seconds(len(request) + protocol.PARAMETERS_BYTES)
        packet = await self.ask(request, lambda packet: self._is_answer(packet, answers), seconds=seconds)
        self._in_step = True
        if packet.pid == Pid.ACK and packet.code in _ALWAYS_REFUSALS and protocol.is_plain(packet):
            self._in_step = packet.code != Code.PACKET_ERROR
            raise refused(packet.code)
        return packet

    def _is_answer(self, packet: Packet, answers: Callable[[Packet], bool]) -> bool:
        if protocol.is_plain(packet) and packet.code in _ALWAYS_REFUSALS:
            return packet.address == self._settings.address or packet.code == Code.WRONG_ADDRESS
        return packet.address == self._settings.address and answers(packet)

    async def _quiet(self) -> None:
        """Wait until an upload that nobody waits for any more is through; a module that never ends is asked anyway."""
        clock = asyncio.get_running_loop().time
        quiet_seconds = 0.1 + self._wire_seconds(2 * _LONGEST_PACKET)
        limit = clock() + self._data_seconds(protocol.IMAGE_BYTES) + quiet_seconds
        while True:
            left = min(self._data_at + quiet_seconds, limit) - clock()
            if self._data_at < 0 or left <= 0:
                return
            await asyncio.sleep(left)

    async def _persist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` again, four times in all, when the wire lost or damaged something."""
        tries = _TRIES
        while True:
            tries -= 1
            try:
                return await work()
            except DeviceError as error:
                if tries == 0 or error.code not in _LINE_TROUBLE:
                    raise

    def _wire_seconds(self, count: int) -> float:
        return count * 10 / self._settings.baud

    def _data_seconds(self, count: int) -> float:
        """Time on the wire of `count` bytes in data packets."""
        packets = -(-count // self._packet_bytes)
        return self._wire_seconds(count + packets * protocol.PACKET_OVERHEAD)

    def _garbled(self) -> DeviceError:
        return self.error("garbled", "the wire damages packets", advice="check the sensor's cable", retry=True)

    def _no_answer(self) -> DeviceError:
        advice = "check the sensor's power and cable; it is tried again by itself"
        return self.error("no_answer", "the sensor does not answer", advice=advice, retry=True)
