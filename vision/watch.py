"""One camera of the terminal: on while it is asked for, and looked at by itself, briefly and rarely, while it is off.

A camera that is off is not lit. It is looked at when the process starts, when it is plugged in, and then after 5 s,
10 s, 20 s ... up to every 5 min as long as its status does not change; a change begins anew. A look ends with the
first frames that show something, after 1.5 s when all is dark, and after 5 s at the latest. Whether it is plugged in
at all is seen from its path, without opening it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import structlog

from vision.camera import Camera, CameraFeed, open_camera
from vision.v4l2 import Size
from vision.verifier import CameraName, CameraState, CameraStatus

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.25
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0


class WatchedCamera:
    """A camera, its feed and its status; `tell` gets each change of the status.

    Used from the event loop; nothing here waits but `close`, which is a thread's.
    """

    def __init__(
        self, name: CameraName, address: str, least: Size, *, rig: bool, tell: Callable[[CameraStatus], None]
    ) -> None:
        self._least = least
        self._path = Path(address.removeprefix("rig:"))
        self._open: Callable[[], Camera] = lambda: open_camera(address, least, rig=rig)
        self._tell = tell
        self._status = CameraStatus(name, "unknown")
        self._feed: CameraFeed | None = None
        self._looking = False
        self._pause = FIRST_PAUSE_SECONDS
        self._due = 0.0

    @property
    def feed(self) -> CameraFeed | None:
        """The feed, while the camera is on."""
        return self._feed if self._feed and self._feed.on else None

    def turn_on(self) -> CameraFeed:
        """Return the camera's feed; it stays on until `close` or its failure."""
        self._looking = False
        if self._feed is None or not self._feed.on:
            self._feed = CameraFeed(self._open, self._least, self._feed.holder if self._feed else None)
        return self._feed

    def close(self) -> None:
        """Turn the camera off and overwrite its newest frame; blocks up to 2 s. VisionError `camera.stuck`.

        One that was in use need not be looked at soon; a look that is broken off begins again.
        """
        if self.feed and not self._looking:
            self._due = time.monotonic() + self._pause
        self._looking = False
        if self._feed:
            self._feed.close()

    def tick(self) -> None:
        """Take note of how the camera is, and begin or end a look; to be called every TICK_SECONDS."""
        now = time.monotonic()
        health = self._feed.health() if self._feed else None
        plugged = self._path.exists()
        if not plugged:
            health = "lost", "camera.missing"
            self._due = now
        if health:
            self._heard(*health)
        if self._looking and health and self._feed:
            self._looking = False
            self._feed.stop()
            self._due = max(self._due, now + self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        elif plugged and self.feed is None and now >= self._due:
            self.turn_on()
            self._looking = True

    def _heard(self, state: CameraState, code: str | None) -> None:
        status = CameraStatus(self._status.camera, state, code)
        if status == self._status:
            return
        self._status = status
        self._pause = FIRST_PAUSE_SECONDS
        log.log(logging.INFO if state == "online" else logging.WARNING, "camera_is", **asdict(status))
        self._tell(status)
