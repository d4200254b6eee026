"""Install the Debian packages the tests need when root, or name what is missing and how to get it."""

import glob
import os
import shutil
import subprocess
import sys

PACKAGE_OF = {
    "/lib/nut/upsd": "nut-server",
    "/usr/sbin/mosquitto": "mosquitto",
    "cc": "gcc",
    "dbus-daemon": "dbus",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "socat": "socat",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "udevadm": "udev",
    "umockdev-wrapper": "umockdev",
    "upsc": "nut-client",
}
FILES_OF = {
    "gir1.2-umockdev-1.0": "/usr/lib/*/girepository-1.0/UMockdev-1.0.typelib",
    "python3-gi": "/usr/lib/python3/dist-packages/gi/__init__.py",
}


def main() -> int:
    """Return 0 when everything is there."""
    missing = sorted(
        {package for command, package in PACKAGE_OF.items() if shutil.which(command) is None}
        | {package for package, pattern in FILES_OF.items() if not glob.glob(pattern)}
    )
    if not missing:
        return 0
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing, "libc6-dev"]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "--quiet"], check=True, env=environment)
        return subprocess.run(install, check=False, env=environment).returncode
    print(f"the tests need: {', '.join(missing)}\ninstall them with: sudo {' '.join(install)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
