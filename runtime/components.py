"""Every component on the board as it is: by its own word, by its driver's life, by what the vision process says."""

from typing import Protocol

from devices.status import DeviceState, DeviceStatus
from runtime.cameras import COMPONENTS, device_status
from runtime.state import Component, StateBoard
from runtime.supervisor import UnitState
from vision.verifier import CameraStatus

_HEALTHY = {DeviceState.ONLINE, DeviceState.DEVICE_BUSY}
_NOT_AT_FAULT = {*_HEALTHY, DeviceState.STARTING}
_FRAUD = {DeviceState.POTENTIAL_FRAUD, DeviceState.FRAUD_ATTEMPT}
_UNIT_STATES = {
    UnitState.STARTING: DeviceState.STARTING,
    UnitState.RUNNING: DeviceState.ONLINE,
    UnitState.BACKING_OFF: DeviceState.OFFLINE,
    UnitState.GAVE_UP: DeviceState.OFFLINE,
    UnitState.STOPPED: DeviceState.OFFLINE,
}


class Listener(Protocol):
    """Who has to know of a component's trouble."""

    def at_fault(self, component: str, code: str | None) -> None:
        """Take note of a ticketed component's fault, None when it has none (T15)."""

    def meddled_with(self, component: str, code: str | None) -> None:
        """Take note that somebody exchanged a component or broke into it, None when it serves as it should (T23)."""


class Components:
    """Puts components on the board; those that are `ticketed` are listened to for faults."""

    def __init__(self, board: StateBoard, ticketed: set[str], listener: Listener) -> None:
        self._board = board
        self._ticketed = ticketed
        self._listener = listener
        self._devices: dict[str, DeviceStatus] = {}
        self._cameras: dict[str, DeviceStatus | None] = {}
        self._units: dict[str, tuple[UnitState, str | None]] = {}

    def device(self, name: str, status: DeviceStatus) -> None:
        """Take note of what a device says of itself."""
        self._devices[name] = status
        self._publish(name)

    def unit(self, name: str, state: UnitState, code: str | None) -> None:
        """Take note of how a supervised unit is."""
        self._units[name] = (state, code)
        self._publish(name)
        if name == "vision":
            for camera in self._cameras:
                self._publish_camera(camera)

    def camera(self, status: CameraStatus) -> None:
        """Take note of what the vision process says of a camera."""
        name = COMPONENTS[status.camera]
        self._cameras[name] = device_status(status)
        self._publish_camera(name)

    def figures(self, name: str, **figures: object) -> None:
        """Show the figures of a component that is no device."""
        details: dict[str, str | bool] = {figure: str(value) for figure, value in figures.items()}
        self.device(name, DeviceStatus(DeviceState.ONLINE, details=details))

    def _publish(self, name: str) -> None:
        """Put a component on the board: a device's own word, unless its driver is dead of a bug or could not say so."""
        unit, code = self._units.get(name, (UnitState.STOPPED, None))
        status = self._devices.get(name)
        dead = unit is not UnitState.RUNNING
        if status is None or (dead and (status.state in _NOT_AT_FAULT or code == "internal")):
            status = DeviceStatus(_UNIT_STATES[unit], code, status.identity if status else None)
        state, details = status.state, status.details
        if status.code in {f"{name}.wrong_device", f"{name}.swapped", "model.damaged"}:
            state = DeviceState.POTENTIAL_FRAUD
        if state in _HEALTHY or (state in _FRAUD and status.code is not None):
            self._listener.meddled_with(name, status.code if state in _FRAUD else None)
        if unit is UnitState.GAVE_UP:
            details = {**details, "gave_up": True}
        self._board.set(name, Component(state, status.code, status.identity, details))
        if name in self._ticketed and state is not DeviceState.STARTING and unit is not UnitState.STOPPED:
            self._listener.at_fault(name, None if state in _HEALTHY else status.code or f"{name}.{state}")

    def _publish_camera(self, name: str) -> None:
        """Put a camera on the board. One of which nothing is known is as the vision process is, without a ticket."""
        status = self._cameras[name]
        if status is None:
            unit, code = self._units.get("vision", (UnitState.STARTING, None))
            state = DeviceState.STARTING if unit is UnitState.RUNNING else _UNIT_STATES[unit]
            self._board.set(name, Component(state, code))
        else:
            self._board.set(name, Component(status.state, status.code, details=status.details))
            self._listener.at_fault(name, status.code)
