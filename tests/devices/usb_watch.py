"""Prints what `UdevHotplug` tells, a JSON text a line; run inside a mocked USB bus (`usb_bed`)."""

import asyncio
import json

from devices.hotplug import Attached, Detached, HotplugEvent, UdevHotplug, UsbDevice


async def main() -> None:
    hotplug = UdevHotplug()

    devices: dict[str, UsbDevice] = {}

    def tell(change: HotplugEvent) -> None:
        if isinstance(change, Attached | Detached):
            device = change.device
            devices[device.path] = device
            what = {"hub": device.is_hub, "storage": device.is_storage, "keyboard": device.is_keyboard}
            print(json.dumps({"change": type(change).__name__, "usb": device.usb, **what}), flush=True)
            return
        port = change.port
        links = sorted(port.links)
        found = sorted(name for name in (port.node, *links) if hotplug.find(name) == port)
        told = {"change": type(change).__name__, "node": port.node, "links": links, "usb": port.usb}
        owners = [device.usb for device in devices.values() if device.has(port)]
        print(json.dumps({**told, "serial": port.serial, "found": found, "owners": owners}), flush=True)

    await hotplug.run(lambda: print('"ready"', flush=True), tell)


asyncio.run(main())
