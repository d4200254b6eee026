"""A mocked USB bus: run by the system's Python (for its `gi`) inside umockdev-wrapper.

Starts the program in its arguments inside the mock. Each line on standard input is a JSON object: `{"add": node,
"serial": s, "usb": "VID:PID", "link": name}`, `{"attach": name, "usb": "VID:PID", "type": t, "interfaces": i}` for a
device without a port, `{"remove": either}` or `{"change": node}`. The end of input ends both.
"""

import json
import subprocess
import sys

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import UMockdev  # noqa: E402 - the version comes first

bed = UMockdev.Testbed.new()
paths: dict[str, tuple[str, str]] = {}


def add(node: str, serial: str, usb: str, link: str) -> None:
    """Plug a serial adapter in."""
    vendor, _, model = usb.partition(":")
    name = f"1-{len(paths) + 1}-{node}"
    whole = ["DEVTYPE", "usb_device", "PRODUCT", f"{int(vendor, 16):x}/{int(model, 16):x}/100", "TYPE", "0/0/0"]
    device = bed.add_device("usb", name, None, ["idVendor", vendor, "idProduct", model], whole)
    properties = {
        "ID_BUS": "usb",
        "ID_VENDOR_ID": vendor,
        "ID_MODEL_ID": model,
        "ID_SERIAL_SHORT": serial,
        "DEVNAME": f"/dev/{node}",
        "DEVLINKS": f"/dev/serial/by-id/{link} /dev/serial/by-path/{name}",
    }
    flat = [text for pair in properties.items() for text in pair]
    paths[node] = (device, bed.add_device("tty", node, device, ["dev", f"188:{len(paths)}"], flat))


def attach(name: str, usb: str, kind: str, interfaces: str) -> None:
    """Plug something in that has no port: what the kernel says of it, and udev of its interfaces."""
    vendor, _, model = usb.partition(":")
    properties = ["DEVTYPE", "usb_device", "PRODUCT", f"{int(vendor, 16):x}/{int(model, 16):x}/100", "TYPE", kind]
    path = bed.add_device("usb", name, None, [], [*properties, "ID_USB_INTERFACES", interfaces])
    paths[name] = (path, path)


def remove(node: str) -> None:
    """Pull it out; the mock tells nobody by itself."""
    for path in dict.fromkeys(reversed(paths.pop(node))):
        bed.uevent(path, "remove")
        bed.remove_device(path)


watcher = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
try:
    for line in sys.stdin:
        order = json.loads(line)
        if "add" in order:
            add(order["add"], order["serial"], order["usb"], order["link"])
        elif "attach" in order:
            attach(order["attach"], order["usb"], order["type"], order["interfaces"])
        elif "remove" in order:
            remove(order["remove"])
        else:
            bed.uevent(paths[order["change"]][1], "change")
finally:
    watcher.terminate()
    watcher.wait()
