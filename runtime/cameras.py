"""The cameras as components of the terminal: their names, and what they say in the words of every device.

They are no units of their own: the vision process is, and while it is dead nothing is known of them.
"""

from collections.abc import Mapping
from typing import Final

from devices.status import DeviceState, DeviceStatus
from vision.verifier import CameraName, CameraState, CameraStatus

COMPONENTS: Final[Mapping[CameraName, str]] = {"face": "camera", "document": "document_camera"}

_STATES: Final[Mapping[CameraState, DeviceState]] = {
    "online": DeviceState.ONLINE,
    "dark": DeviceState.ONLINE,
    "covered": DeviceState.USER_ERROR,
    "frozen": DeviceState.HARDWARE_ERROR,
    "lost": DeviceState.OFFLINE,
}


def device_status(status: CameraStatus) -> DeviceStatus | None:
    """Return a camera's word as a device's, None when nothing is known of it.

    A code is a fault. A dark picture is a detail: the camera serves, and a dim hall is no fault of it.
    """
    if status.state == "unknown":
        return None
    code = "camera.covered" if status.state == "covered" else status.code
    return DeviceStatus(_STATES[status.state], code, details={"picture": "dark"} if status.state == "dark" else {})
