"""Install the Debian packages the tests need when root, or name what is missing and how to get it."""

import os
import shutil
import subprocess
import sys

PACKAGE_OF = {
    "cc": "gcc",
    "dbus-daemon": "dbus",
    "node": "nodejs",
    "socat": "socat",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "udevadm": "udev",
}


def main() -> int:
    """Return 0 when every command is there."""
    missing = sorted({package for command, package in PACKAGE_OF.items() if shutil.which(command) is None})
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
