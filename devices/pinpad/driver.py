"""The encrypting PIN pad: stars, an encrypted PIN block and message codes come out of it, never a PIN (T6)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from devices.config import PinPad
from devices.driver import SAFE_SECONDS, finish
from devices.errors import DeviceError
from devices.link import OpenLink
from devices.personal import PersonalBytes, PersonalText
from devices.pinpad import commands, errors
from devices.pinpad.commands import KeyUse
from devices.pinpad.dialogue import Dialogue, hex_of
from devices.pinpad.keys import KeyState, KeyStatus
from devices.pinpad.protocol import (
    FUNCTION_KEYS,
    PIN_KEYS,
    ClearDigit,
    Event,
    Frame,
    FunctionKey,
    Keys,
    PinKey,
    encode,
)
from devices.status import StatusListener

RESET_SECONDS = 3.0
"""How long a pad may take to start anew."""
LONGEST_MESSAGE = 1920
"""Bytes of a message to authenticate: four SM4 commands, about 4 s at 9600 bit/s (T13)."""

_PAN12_DIGITS = 12
_SHORTEST_PIN, _LONGEST_PIN = 4, 12  # ISO 9564
_KCV_BYTES = range(3, 17)
_KEY_BYTES = {"sm4": {16}, "3des": {16, 24}}
_BLOCK_HEAD = 4  # characters before the PIN block; they tell the PIN's length and are dropped
_KEYS_WAITING = 64


class PinBlock(PersonalBytes):
    """An encrypted PIN: under SM4 16 bytes of the form of protocols 6.3, under 3DES 8 bytes of ISO 9564 form 0."""

    __slots__ = ()


class EncryptingPinPad(Dialogue):
    """A supervised PIN pad.

    Keys are heard only during an entry, and every way out of one (enter, cancel, time-out, a cancelled caller, a
    fault, shutdown) disables the keypad. A pad that says it was tampered with, or that sends a digit in clear, is
    `fraudAttempt` and serves nobody.
    """

    CAPABILITIES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "keyboard": ("pinEntry", "functionKeys"),
        "pin_formats": ("sm4", "iso0"),
        "key_usages": ("pinEncryption", "macing"),
        "key_check": ("kcvZero",),
        "algorithms": ("sm4", "3des"),
    }

    def __init__(self, settings: PinPad, open_link: OpenLink, on_status: StatusListener) -> None:
        super().__init__(settings, open_link, on_status)
        self._heard: asyncio.Queue[PinKey | FunctionKey | DeviceError] = asyncio.Queue(_KEYS_WAITING)

    async def load_working_key(self, slot: int, wrapped_key: bytes, kcv: bytes) -> None:
        """Load a working key, encrypted under the master key, into one of the two configured slots.

        The check value that the pad answers is compared with `kcv` (3 to 16 bytes); the shorter one decides. Raises
        ValueError for what cannot be such a key, DeviceError: `pinpad.bad_key` (after which the slot is not used
        until a good key is loaded), `pinpad.no_master_key` and the codes of docs/devices/pinpad.md.
        """
        algorithm, master = self._settings.algorithm, self._settings.master_key
        if slot not in self._keys or len(wrapped_key) not in _KEY_BYTES[algorithm] or len(kcv) not in _KCV_BYTES:
            raise ValueError("not a configured slot, or not the length of a key or of a check value")
        if algorithm == "sm4":
            request = commands.load_sm4_key(master, slot, wrapped_key)
        else:
            use = KeyUse.PIN if slot == self._settings.pin_key else KeyUse.MAC
            request = commands.load_des_key(master, slot, use, wrapped_key)
        async with self._turn():
            if self._keys[slot] is not KeyState.MISMATCHED:
                self._keys[slot] = KeyState.UNKNOWN
            said = hex_of(await self._command(request))
            good = all(ours == theirs for ours, theirs in zip(kcv, said, strict=False))
            self._keys[slot] = KeyState.VERIFIED if good else KeyState.MISMATCHED
            self._report(self._status())
            if not good:
                raise errors.bad_key()

    async def enter_pin(
        self, pan12: PersonalText, on_key: Callable[[PinKey], None], *, min_digits: int = 4, max_digits: int = 6
    ) -> PinBlock:
        """Let the citizen enter a PIN and return it encrypted under the PIN key.

        `pan12` is the 12 rightmost digits of the card number without its check digit. `on_key` is called for each
        key. Raises ValueError for arguments that cannot be, DeviceError: `pinpad.cancelled`, `pinpad.timeout`,
        `pinpad.clear_digit`, `pinpad.tampered` and the codes of docs/devices/pinpad.md.
        """
        if not _SHORTEST_PIN <= min_digits <= max_digits <= _LONGEST_PIN:
            raise ValueError(f"a PIN has {_SHORTEST_PIN} to {_LONGEST_PIN} digits")
        if len(pan12.reveal()) != _PAN12_DIGITS or not (pan12.reveal().isascii() and pan12.reveal().isdigit()):
            raise ValueError(f"a PIN block needs {_PAN12_DIGITS} digits of the card number")
        slot = self._settings.pin_key
        async with self._turn():
            self._require_key(slot)
            await self._command(commands.set_shortest(min_digits))
            await self._command(commands.set_longest(max_digits))
            async with self._entry(PIN_KEYS):
                await self._until_entered(on_key)
                self._decoder.close()
                request = commands.get_pin_block(self._settings.algorithm, slot, pan12.reveal())
                answer = await self._command(request, slot)
            try:
                self._require_trusted()
                return PinBlock(hex_of(answer, _BLOCK_HEAD))
            finally:
                answer.wipe()

    async def mac(self, data: bytes) -> bytes:
        """Return the CBC-MAC of 1 to 1,920 bytes under the MAC key, filled up with zeros to a whole block.

        It has 16 bytes under SM4, 8 under 3DES. Raises ValueError for another length of `data`, and DeviceError.
        """
        if not 1 <= len(data) <= LONGEST_MESSAGE:
            raise ValueError(f"a message has 1 to {LONGEST_MESSAGE} bytes")
        async with self._turn():
            self._require_key(self._settings.mac_key)
            return await self._mac(data)

    async def key_status(self) -> KeyStatus:
        """Ask the pad for its keys: for the master key by its flag, for the MAC key by using it.

        The PIN key cannot be used without a PIN: it stays `unknown` until it is loaded or a PIN was entered.
        """
        async with self._turn():
            await self._identify()
            try:
                await self._mac(bytes(1))
            except DeviceError as error:
                if error.code != "pinpad.key_missing":
                    raise
            self._report(self._status())
            return self._keys.status

    async def wait_function_key(self, *, wait_seconds: float) -> FunctionKey:
        """Wait for a key beside the screen. Digits are masked meanwhile, and dropped.

        Raises DeviceError: `pinpad.cancelled`, `pinpad.timeout` and the codes of docs/devices/pinpad.md.
        """
        async with self._turn(), self._entry(FUNCTION_KEYS):
            try:
                async with asyncio.timeout(wait_seconds):
                    while not isinstance(key := await self._next_key(), FunctionKey):
                        if key is PinKey.CANCEL:
                            raise errors.cancelled()
                        await self._start(FUNCTION_KEYS)  # the pad's own time limit has passed
                    return key
            except TimeoutError:
                raise errors.timed_out() from None

    async def reset(self) -> None:
        """Start the pad anew, for the maintainer; its keys stay. Takes 3 s.

        It ends the alarm of a pad that was tampered with, unless the pad says so again.
        """
        async with self._turn(trusted=False):
            await self._command(commands.RESET)
            self._tamper = None
            self._prepared = self._in_step = False
            await asyncio.sleep(RESET_SECONDS)
            self._report(await self._check())

    async def _leave(self) -> None:
        frame = encode(commands.DISABLE_KEYPAD.body)
        await self.tell(frame)
        await asyncio.sleep(self._wire_seconds(len(frame)))

    def _lose_answer(self) -> None:
        """Let whoever waits for the pad or for a key fail: the life of the link ends."""
        super()._lose_answer()
        self._decoder.close()
        self._end_entry(errors.offline())

    def _unasked(self, frame: Event) -> None:
        if isinstance(frame, Frame):
            frame.wipe()
        elif isinstance(frame, ClearDigit):
            self._decoder.close()
            self._leaky = self._identity
            self._report(self._status())
            self._end_entry(errors.clear_digit())
        elif not self._heard.full():
            self._heard.put_nowait(frame)

    @asynccontextmanager
    async def _entry(self, keys: Keys) -> AsyncIterator[None]:
        """Begin an entry, at no pad but a prepared one, and end it whatever happens."""
        if not self._prepared:
            await self._prepare()
        self._heard = asyncio.Queue(_KEYS_WAITING)
        try:
            await self._start(keys)
            yield
        finally:
            self._decoder.close()
            await finish(self._disable())

    async def _start(self, keys: Keys) -> None:
        self._decoder.arm(keys)
        await self._command(commands.START_ENTRY)

    async def _disable(self) -> None:
        """Turn the keypad off; when it does not obey, the next check tries again, and ends the life if that fails."""
        self._prepared = False
        try:
            async with asyncio.timeout(SAFE_SECONDS):
                await self._command(commands.DISABLE_KEYPAD)
            self._prepared = True
        except (DeviceError, TimeoutError):
            self._check_now.set()

    async def _until_entered(self, on_key: Callable[[PinKey], None]) -> None:
        try:
            async with asyncio.timeout(self._settings.entry_seconds):
                while (key := await self._next_key()) is not PinKey.ENTER:
                    if isinstance(key, PinKey):
                        on_key(key)
                    if key is PinKey.CANCEL:
                        raise errors.cancelled()
                    if key is PinKey.TIMEOUT:
                        raise errors.timed_out()
                on_key(PinKey.ENTER)
        except TimeoutError:
            raise errors.timed_out() from None

    async def _next_key(self) -> PinKey | FunctionKey:
        heard = await self._heard.get()
        if isinstance(heard, DeviceError):
            raise heard
        return heard

    def _end_entry(self, error: DeviceError) -> None:
        """Give whoever waits for a key an error instead."""
        while not self._heard.empty():
            self._heard.get_nowait()
        self._heard.put_nowait(error)
