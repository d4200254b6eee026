"""What a machine must have to boot a board, told by name when it has not."""

import os
import shutil
import subprocess

from tests.system_packages import PACKAGE_OF

COMMANDS = ("cc", "ip", "mmdebstrap", "systemd-nspawn")

_PROBES = {
    "mounts of its own (CAP_SYS_ADMIN)": "mount -t tmpfs tmpfs /run",
    "control groups of version 2 that may be written": (
        "umount --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        " && mkdir /sys/fs/cgroup/govterm-needs && rmdir /sys/fs/cgroup/govterm-needs"
    ),
    "process, network and IPC namespaces": "unshare --pid --fork --net --ipc --uts true",
}


def missing() -> list[str]:
    """Return what this machine lacks, each with how to get it; nothing when it can boot a board."""
    if os.geteuid() != 0:
        return ['root (sudo make test), or leave these tests out: pytest -m "not slow and not board"']
    found = [f"{name} (apt-get install {PACKAGE_OF[name]})" for name in COMMANDS if shutil.which(name) is None]
    for what, probe in _PROBES.items():
        command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", probe)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            found.append(f"{what}; in a container give it --privileged: {done.stderr.strip()}")
    return found
