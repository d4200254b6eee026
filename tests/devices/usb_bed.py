"""A mocked USB bus: run by the system's Python (for its `gi`) inside umockdev-wrapper.

Starts the program in its arguments inside the mock. Each line on standard input is a JSON object: `{"add": node,
"serial": s, "usb": "VID:PID", "link": name}`, `{"remove": node}` or `{"change": node}`. The end of input ends both.
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
    device = bed.add_device("usb", name, None, ["idVendor", vendor, "idProduct", model], ["DEVTYPE", "usb_device"])
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


def remove(node: str) -> None:
    """Pull it out; the mock tells nobody by itself."""
    device, port = paths.pop(node)
    bed.uevent(port, "remove")
    for path in (port, device):
        bed.remove_device(path)


watcher = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
try:
    for line in sys.stdin:
        order = json.loads(line)
        if "add" in order:
            add(order["add"], order["serial"], order["usb"], order["link"])
        elif "remove" in order:
            remove(order["remove"])
        else:
            bed.uevent(paths[order["change"]][1], "change")
finally:
    watcher.terminate()
    watcher.wait()
