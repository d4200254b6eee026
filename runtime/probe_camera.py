"""A camera with the manners of a driver, to be probed: it has no wire, and its pictures stay in the vision process."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from devices.errors import DeviceError
from devices.link import OpenLink
from devices.status import DeviceState, DeviceStatus, StatusListener
from vision.errors import VisionError
from vision.trial import watch_camera
from vision.wire import CameraSeen

_BY_ID = "/dev/v4l/by-id/"


class CameraSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a camera to be probed; in the configuration the cameras stand in `[vision]`."""

    port: Annotated[str, Meta(min_length=1, description="Its path, or `rig:SOCKET`.")]
    document: Annotated[bool, Meta(description="The document camera: it must give 5 megapixels (T2).")] = False


class CameraUnderTest:
    """A camera, on while `run` lives. Its identity is its name under /dev/v4l/by-id, where it is called by that."""

    def __init__(self, section: CameraSection, _open_link: OpenLink, _on_status: StatusListener) -> None:
        self._section = section
        self._seen: CameraSeen | None = None
        self._changed = asyncio.Event()
        self._why_off = DeviceError("camera.off", "the camera is off", advice="turn it on", retry=True)

    @property
    def seen(self) -> CameraSeen:
        """The last word on the camera; raise DeviceError with why it is off."""
        if self._seen is None:
            raise self._why_off
        return self._seen

    @property
    def status(self) -> DeviceStatus:
        """Online when something lit is in its frames, else offline with `camera.dark` or `camera.covered`."""
        seen, port = self.seen, self._section.port
        return DeviceStatus(
            DeviceState.ONLINE if seen.state == "online" else DeviceState.OFFLINE,
            None if seen.state == "online" else f"camera.{seen.state}",
            port.removeprefix(_BY_ID) if port.startswith(_BY_ID) else None,
            {"pixels": f"{seen.width}x{seen.height}", "first_frame": f"{seen.first_seconds:.2f} s"},
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Turn the camera on, call `ready` when it is known what it sees; raise DeviceError when it ends."""

        def take(seen: CameraSeen) -> None:
            self._seen = seen
            self._changed.set()
            if seen.state != "unknown":
                ready()

        try:
            await watch_camera("document" if self._section.document else "face", self._section.port, take)
        except VisionError as error:
            self._why_off = DeviceError(error.code, str(error), advice=error.advice, retry=error.retry)
            raise self._why_off from None
        finally:
            self._seen = None
            self._changed.set()

    async def until(self, good: Callable[[CameraSeen], bool], seconds: float) -> bool:
        """Wait until what is seen is good; False when it is not within `seconds`. Raises DeviceError when it is off."""
        try:
            async with asyncio.timeout(seconds):
                while not good(self.seen):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
