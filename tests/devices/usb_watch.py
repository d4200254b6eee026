"""Prints what `UdevHotplug` tells, a JSON text a line; run inside a mocked USB bus (`usb_bed`)."""

import asyncio
import json

from devices.hotplug import Plugged, UdevHotplug, Unplugged


async def main() -> None:
    hotplug = UdevHotplug()

    def tell(change: Plugged | Unplugged) -> None:
        port = change.port
        links = sorted(port.links)
        found = sorted(name for name in (port.node, *links) if hotplug.find(name) == port)
        told = {"change": type(change).__name__, "node": port.node, "links": links, "usb": port.usb}
        print(json.dumps({**told, "serial": port.serial, "found": found}), flush=True)

    await hotplug.run(lambda: print('"ready"', flush=True), tell)


asyncio.run(main())
