"""Driver of the fingerprint sensor (T3, protocols 2.4): capture, compare one to one, picture.

Nobody is enrolled or searched for: what the module holds of a finger is overwritten after every use (T20).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from devices.errors import DeviceError
from devices.fingerprint import errors, protocol
from devices.fingerprint.dialogue import Dialogue
from devices.fingerprint.finger import (
    FingerImage,
    Guidance,
    GuidanceListener,
    MatchResult,
    Template,
    TemplateFormat,
    expand_pixels,
)
from devices.fingerprint.protocol import Code, Command, Packet, Parameters
from devices.personal import PersonalBytes, wipe
from devices.status import DeviceState, DeviceStatus

POLL_SECONDS = 0.2
WORK_SECONDS = 5.0
"""From the finger found to the template or the decision (T13)."""
CLEAR_SECONDS = 5.0
_BUFFERS = (1, 2)
_USUAL_RECORD_BYTES = 512
_IMAGE_SIZES = range(protocol.IMAGE_BYTES, protocol.IMAGE_BYTES + 1)

_POOR = {Code.NOT_IMAGED: Guidance.HOLD_STILL, Code.MESSY: Guidance.WIPE, Code.FEW_FEATURES: Guidance.PRESS}
"""What is done about a picture that is not good enough."""

_FORMATS = {each.size: each for each in (TemplateFormat.ZFM_256, TemplateFormat.ZFM_512)}


class FingerprintSensor(Dialogue):
    """A supervised fingerprint sensor of the ZFM/R30x family.

    `run` is one life of its link; `capture`, `match` and `image` serve while it runs, one at a time. The family has
    no serial number: `status.identity` is its system id and address, and its password proves that it is ours.
    """

    CAPABILITIES: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "interface": "Biometric",
        "scanModes": ("scan", "match"),
        "compareModes": ("verify",),
        "dataFormats": (TemplateFormat.ZFM_256, TemplateFormat.ZFM_512),
        "image": "256x288, 4 bit a pixel",
        "fap": "none",
    }
    """In the words of XFS4IoT. `fap` none: the picture is smaller than FAP 10 asks and coarser than FAP 20's 8 bit."""

    _record_bytes = _USUAL_RECORD_BYTES
    _handshake: Command | None = None
    _holds_finger = False
    _finger_taken = False
    _leaving = False

    async def capture(self, *, wait_seconds: float, on_guidance: GuidanceListener) -> Template:
        """Wait up to `wait_seconds` for a finger laid down anew and return its template.

        Raises DeviceError: `fingerprint.no_finger`, the code of what was poor about the last picture, or
        `fingerprint.not_lifted` when the wait is over; and the codes of `ask`.
        """
        until = self._until(wait_seconds)
        async with self._operation(until, WORK_SECONDS) as deadline:
            await self._finger(until, on_guidance, characters=True)
            deadline.reschedule(self._until(WORK_SECONDS))
            size = self._record_bytes
            data = await self._upload(Command.UPLOAD_CHARACTERS, b"\x01", range(size, size + 1))
        try:
            return Template(_FORMATS[len(data)], PersonalBytes(data))
        finally:
            wipe(data)

    async def match(self, template: Template, *, wait_seconds: float, on_guidance: GuidanceListener) -> MatchResult:
        """Wait up to `wait_seconds` for a finger laid down anew and compare it with `template` on the module.

        Raises DeviceError: `fingerprint.format_mismatch` at once for a template that is none of this module's, a
        card's record (GA/T 1012) above all; and what `capture` raises.
        """
        self._require_serving()
        if template.format is not _FORMATS.get(self._record_bytes):
            raise errors.format_mismatch(template.format)
        until = self._until(wait_seconds)
        async with self._operation(until, WORK_SECONDS) as deadline:
            await self._download(2, template.data.view())
            await self._finger(until, on_guidance, characters=True)
            deadline.reschedule(self._until(WORK_SECONDS))
            level = (await self._persist(self._fence)).security_level
            answer = await self._command(Command.MATCH, answers=protocol.is_score)
        if answer.code not in {Code.OK, Code.NO_MATCH}:
            raise errors.refused(answer.code)
        score = int.from_bytes(answer.payload[1:], "big") if len(answer.payload) == 3 else None
        return MatchResult(answer.code == Code.OK, score, level)

    async def image(self, *, wait_seconds: float, on_guidance: GuidanceListener) -> FingerImage:
        """Wait up to `wait_seconds` for a finger laid down anew and return its picture.

        The module sends 40,032 bytes: 7 s at 57,600 baud, 3.5 s at 115,200; twice that is the deadline.
        """
        until = self._until(wait_seconds)
        work_seconds = WORK_SECONDS + 2 * self._data_seconds(protocol.IMAGE_BYTES)
        async with self._operation(until, work_seconds) as deadline:
            await self._finger(until, on_guidance, characters=False)
            deadline.reschedule(self._until(work_seconds))
            packed = await self._upload(Command.UPLOAD_IMAGE, b"", _IMAGE_SIZES)
        try:
            return FingerImage(expand_pixels(packed))
        finally:
            wipe(packed)

    async def clear(self) -> None:
        """Return when both feature buffers of the module are overwritten, for the end of a session (T20).

        The driver does this by itself after every use; here its success can be awaited.
        """
        async with self._held(self._until(CLEAR_SECONDS), CLEAR_SECONDS):
            await self._overwrite()

    async def is_clear(self) -> bool:
        """Look whether the finger that was read last is lifted; raise DeviceError when the module does not say."""
        if self._finger_taken:
            async with self._held(self._until(CLEAR_SECONDS), CLEAR_SECONDS):
                await self._look(characters=False)
        return not self._finger_taken

    async def take_back(self) -> None:
        """Nothing is to be taken: a finger that stays is not read before it was lifted."""

    async def _open(self) -> DeviceStatus:
        """Prove who the module is, set it up, and overwrite what an earlier process may have left in it."""
        self._leaving = False
        self._in_step = self._holds_finger = False
        password = self._settings.password.to_bytes(4, "big")
        answer = await self._command(Command.VERIFY_PASSWORD, password, _answers_password)
        if answer.code != Code.OK:
            raise errors.refused(answer.code)
        parameters = await self._persist(self._fence)
        if parameters.security_level != self._settings.security_level:
            parameters = await self._set_security_level()
        self._handshake = await self._shake_hands()
        await self._learn_format()
        return self._online(parameters)

    async def _check(self) -> DeviceStatus:
        """Ask for the parameters, and overwrite a finger that an operation left."""
        parameters = await self._persist(self._fence)
        if self._holds_finger:
            await self._overwrite()
        return self._online(parameters)

    async def _end_safely(self) -> None:
        """Let an operation that waits for a finger end at its next look, so that the module can be emptied."""
        self._leaving = True
        await super()._end_safely()

    async def _leave(self) -> None:
        """Overwrite what an operation left in the module."""
        if self._holds_finger:
            await self._overwrite()

    async def _finger(self, until: float, on_guidance: GuidanceListener, *, characters: bool) -> None:
        """Return when a finger was laid down anew and its picture is good; with `characters`, features in buffer 1."""
        said: Guidance | None = None

        def guide(word: Guidance) -> None:
            nonlocal said
            if word is not said:
                said = word
                on_guidance(word)

        while self._finger_taken and await self._look(characters=False) != Code.NO_FINGER:
            guide(Guidance.LIFT)
            await self._pause(until, errors.not_lifted())
        guide(Guidance.PLACE)
        trouble: int = Code.NO_FINGER
        while (code := await self._look(characters=characters)) != Code.OK:
            if code in _POOR:
                trouble = code
                guide(_POOR[Code(code)])
            elif code != Code.NO_FINGER:
                raise errors.refused(code)
            await self._pause(until, errors.refused(trouble))

    async def _look(self, *, characters: bool) -> int:
        """Take a picture, perhaps its features, and return how that went; OK is certain, not another command's."""

        async def once() -> int:
            self._strays.clear()
            answer = await self._exchange(Command.GENERATE_IMAGE)
            if answer.code in {Code.OK, Code.NO_FINGER}:
                self._finger_taken = answer.code == Code.OK
            if answer.code == Code.OK and characters:
                answer = await self._exchange(Command.IMAGE_TO_CHARACTERS, b"\x01")
            if answer.code == Code.OK:
                await self._prove()
            return answer.code

        return await self._persist(once)

    async def _learn_format(self) -> None:
        """Overwrite both buffers and find out how long a template is; refuse a module whose format has no name."""
        self._record_bytes = _USUAL_RECORD_BYTES
        await self._overwrite()
        blank = await self._upload(Command.UPLOAD_CHARACTERS, b"\x01", range(1, protocol.LONGEST_RECORD + 1))
        if len(blank) not in _FORMATS:
            raise errors.unknown_format(len(blank))
        self._record_bytes = len(blank)

    async def _overwrite(self) -> None:
        """Put zeros into both feature buffers. The picture stays until the next GENERATE_IMAGE overwrites it."""
        self._holds_finger = True
        for buffer in _BUFFERS:
            await self._download(buffer, bytes(self._record_bytes))
        self._holds_finger = False

    @asynccontextmanager
    async def _operation(self, until: float, work_seconds: float) -> AsyncIterator[asyncio.Timeout]:
        """Hold a module that is in step and empty; it is emptied behind the operation, whatever ends it."""
        async with self._held(until, work_seconds) as deadline:
            await self._persist(self._fence)
            if self._holds_finger:
                await self._overwrite()
            self._holds_finger = True
            yield deadline

    @asynccontextmanager
    async def _held(self, until: float, work_seconds: float) -> AsyncIterator[asyncio.Timeout]:
        """Hold the module; all is over `work_seconds` after `until`, or when the caller reschedules the deadline."""
        self._require_serving()
        try:
            async with asyncio.timeout_at(until):
                await self._lock.acquire()
        except TimeoutError:
            raise errors.busy() from None
        try:
            async with asyncio.timeout_at(until + work_seconds) as deadline:
                self._require_serving()
                yield deadline
        except TimeoutError:
            raise self._no_answer() from None
        finally:
            self._check_now.set()
            self._lock.release()

    async def _pause(self, until: float, over: DeviceError) -> None:
        """Wait before the next look; raise `over` when the wait is over, and the reason when the life ended."""
        if self._until(POLL_SECONDS) > until:
            raise over
        await asyncio.sleep(POLL_SECONDS)
        self._require_serving()

    def _require_serving(self) -> None:
        self.require_online()
        if self._leaving:
            raise self.error("offline", "the sensor is not there", advice="it is tried again by itself", retry=True)

    def _online(self, parameters: Parameters) -> DeviceStatus:
        details: dict[str, str | bool] = {
            "fap": "none",
            "security_level": str(parameters.security_level),
            "template": str(_FORMATS[self._record_bytes]),
        }
        if self._handshake is not None:
            details["handshake"] = f"{self._handshake:02X}"
        identity = f"{parameters.system:04X}-{parameters.address:08X}"
        return DeviceStatus(DeviceState.ONLINE, identity=identity, details=details)

    @staticmethod
    def _until(seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds


def _answers_password(packet: Packet) -> bool:
    """Whether this can answer VERIFY_PASSWORD; a late answer with any other code cannot."""
    return protocol.is_plain(packet) and packet.code in {Code.OK, Code.WRONG_PASSWORD}
