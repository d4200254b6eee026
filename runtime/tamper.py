"""What is seen of tampering, by the devices and the machine, told to the lock-down as causes (T23, H8)."""

from collections.abc import Callable, Iterable

from devices.hotplug import UsbPort
from devices.status import DeviceStatus
from runtime.config import Settings
from runtime.lockdown import Cause, Lockdown
from runtime.messages import MaintenanceWindow
from runtime.policy import Kind
from runtime.route_watch import RouteWatch
from runtime.services.matters import Found
from runtime.settling import Settling
from runtime.usb_watch import UsbWatch

_PIN_PAD = {"pinpad.tampered", "pinpad.clear_digit"}
_DOOR = Cause("door", "environment.door_open", "environment")
_FORGED = {"catalogue.bad_signature", "catalogue.digest_mismatch"}


class Tamper:
    """Takes what is seen, from whoever sees it: nothing raises or waits. `settling.run` is one supervised life."""

    def __init__(
        self,
        settings: Settings,
        lockdown: Lockdown,
        find: Callable[[str], UsbPort | None],
        platform_time: Callable[[], float | None],
        sound: Callable[[str, str], None],
    ) -> None:
        """`find` is `Hotplug.find`; `platform_time` the platform's clock (UTC seconds), None while it is not known.

        `sound` raises an alarm that nothing else follows from (`runtime.alarms.Alarms.sound`).
        """
        self._lockdown = lockdown
        self._platform_time = platform_time
        self._sound = sound
        self._windows: list[MaintenanceWindow] = []
        self._is_door_open = False
        self.settling = Settling()
        cameras = (settings.vision.camera, settings.vision.document_camera)
        self.usb = UsbWatch(
            [*(section.port for section in settings.devices.values()), *(one for one in cameras if one is not None)],
            settings.security.usb_allowed,
            find,
            self.settling,
            on_found=lambda code, subject: lockdown.found(Cause("usb", code, subject), lasts=True),
            on_over=lambda code, subject: lockdown.over(Cause("usb", code, subject)),
        )
        self.routes = RouteWatch(
            settings.security.uplinks,
            self.settling,
            on_found=lambda code, subject: lockdown.found(Cause("network", code, subject), lasts=True),
            on_over=lambda code, subject: lockdown.over(Cause("network", code, subject)),
        )

    def announced(self, windows: Iterable[MaintenanceWindow]) -> None:
        """Take note of the maintenance that is announced; a door that is open when it is over is told then."""
        self._windows = list(windows)
        if self._is_door_open and not self._is_maintained():
            self._lockdown.found(_DOOR, lasts=True)

    def device(self, name: str, status: DeviceStatus) -> None:
        """Look at what a device says of itself: the environment unit tells of the door. No answer is no change."""
        said = status.details.get("cabinetDoor")
        if name != "environment" or said is None or (said == "open") == self._is_door_open:
            return
        self._is_door_open = said == "open"
        if not self._is_door_open:
            self._lockdown.over(_DOOR)
        elif self._is_maintained():
            self._lockdown.note("door_opened_in_maintenance")
        else:
            self._lockdown.found(_DOOR, lasts=True)

    def meddled_with(self, component: str, code: str | None) -> None:
        """Take note that somebody exchanged or broke into a component; None when it serves as it should."""
        kind: Kind = "pinpad" if code in _PIN_PAD else "model" if component == "vision" else "device"
        if code is not None:
            self._lockdown.found(Cause(kind, code, component), lasts=True)
        else:
            self._lockdown.well(component)

    def once(self, kind: Kind, code: str) -> None:
        """Take note of what happened once and does not last: at the egress, or to the journal."""
        self._lockdown.found(Cause(kind, code, kind))

    def catalogue(self, code: str, found: Found) -> None:
        """Take note that a catalogue was refused, as it was stored here or as the platform issued it.

        What the platform issued is only told: the one in force goes on, and a slip in publishing locks no terminal.
        """
        if code in _FORGED and found == "stored":
            self.once("catalogue", code)
        elif code in _FORGED:
            self._sound(code, "catalogue")

    def _is_maintained(self) -> bool:
        """Whether a maintenance is announced for now, by the platform's clock alone."""
        now = self._platform_time()
        return now is not None and any(one.begins_unix <= now <= one.ends_unix for one in self._windows)
