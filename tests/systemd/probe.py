"""Runs in place of the daemon under its unit: tries what the sandbox forbids and prints what came of it, as JSON.

With arguments it tries these alone, as a control outside the unit.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
MAP_FAILED = ctypes.c_void_p(-1).value
READ_WRITE, READ_EXECUTE = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
PTRACE_TRACEME, PERSONALITY_32 = 0, 8
IO_URING_SETUP, KEYCTL = 425, {"x86_64": 250, "aarch64": 219}[os.uname().machine]
KEYS = os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/govterm.service")
TIME = ctypes.create_string_buffer(16)


def call(name: str, *arguments: object) -> Callable[[], None]:
    """Make an attempt of a libc function that answers -1 when it is refused."""

    def attempt() -> None:
        if getattr(LIBC, name)(*arguments) in (-1, MAP_FAILED):
            raise OSError(ctypes.get_errno(), name)

    return attempt


def write(path: str) -> Callable[[], object]:
    return lambda: Path(path).write_text("x")


def read(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()


def listed(path: str) -> Callable[[], object]:
    return lambda: os.listdir(path)


def family(name: int) -> Callable[[], None]:
    return lambda: socket.socket(name, socket.SOCK_DGRAM).close()


def executable_later() -> None:
    """Write into memory, then make it executable, as a compiler at run time does."""
    address = LIBC.mmap(None, 4096, READ_WRITE, PRIVATE, -1, 0)
    call("mprotect", ctypes.c_void_p(address), 4096, READ_EXECUTE)()


def execute(place: str) -> Callable[[], None]:
    """Make an attempt to run a program of its own writing."""

    def attempt() -> None:
        path = Path(place, "program")
        try:
            path.write_text("#!/bin/sh\n")
            path.chmod(0o700)
            subprocess.run([path], check=True)
        finally:
            path.unlink(missing_ok=True)

    return attempt


def map_executable(place: str) -> Callable[[], None]:
    """Make an attempt to load code of its own writing, as dlopen(3) would."""

    def attempt() -> None:
        path = Path(place, "library")
        path.write_bytes(bytes(4096))
        try:
            with path.open("rb") as file:
                call("mmap", None, 4096, READ_EXECUTE, mmap.MAP_PRIVATE, file.fileno(), 0)()
        finally:
            path.unlink(missing_ok=True)

    return attempt


def own_file(mode: int) -> Callable[[], None]:
    def attempt() -> None:
        path = Path("/var/lib/govterm/probe")
        try:
            path.write_text("x")
            path.chmod(mode)
        finally:
            path.unlink(missing_ok=True)

    return attempt


FORBIDDEN = {
    "read the shadow file": read("/etc/shadow"),
    "read a key on the disk": read("/etc/govterm/credentials/terminal.key"),
    "write a credential": write(f"{KEYS}/terminal.key"),
    "list home directories": listed("/home"),
    "list root's home": listed("/root"),
    "write the models": write("/var/lib/govterm-models/x"),
    "write the configuration": write("/etc/govterm/govterm.toml"),
    "write its own program": write("/opt/govterm/bin/x"),
    "write a kernel setting": write("/proc/sys/kernel/hostname"),
    "see PID 1": read("/proc/1/status"),
    "write control groups": lambda: os.mkdir("/sys/fs/cgroup/probe"),
    "a packet socket": family(socket.AF_PACKET),
    "a VM socket": lambda: socket.socket(40, socket.SOCK_STREAM).close(),
    "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "a user namespace": call("unshare", CLONE_NEWUSER),
    "a mount namespace": call("unshare", CLONE_NEWNS),
    "ptrace": call("ptrace", PTRACE_TRACEME, 0, None, None),
    "memory to write and execute": call("mmap", None, 4096, READ_WRITE | mmap.PROT_EXEC, PRIVATE, -1, 0),
    "memory made executable later": executable_later,
    "memory with a file name": lambda: os.close(os.memfd_create("probe")),
    "memory shared by name": write("/dev/shm/probe"),
    "a program in its state": execute("/var/lib/govterm"),
    "a program in its /tmp": execute("/tmp"),
    "a library in its state": map_executable("/var/lib/govterm"),
    "a library in its /tmp": map_executable("/tmp"),
    "io_uring": call("syscall", IO_URING_SETUP, 1, ctypes.create_string_buffer(256)),
    "a key of the kernel's": call("syscall", KEYCTL, 0, -1, 1),
    "another process's memory": call("process_vm_readv", os.getpid(), None, 0, None, 0, 0),
    "another personality": call("personality", PERSONALITY_32),
    "another user": lambda: os.setuid(0),
    "chroot": lambda: os.chroot("/tmp"),
    "real-time scheduling": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "set the host name": lambda: socket.sethostname("probe"),
    "reboot": call("reboot", 0),
    "load a module": call("init_module", None, 0, b""),
    "a set-user-id file": own_file(0o4755),
    "a device node": lambda: os.mknod("/var/lib/govterm/probe-node", 0o20600, os.makedev(1, 3)),
}

ALLOWED = {
    "read its configuration": read("/etc/govterm/govterm.toml"),
    "read a credential": read(f"{KEYS}/terminal.key"),
    "read the models": lambda: [path.read_bytes() for path in Path("/var/lib/govterm-models").glob("*.onnx")][1],
    "read the boot id": read("/proc/sys/kernel/random/boot_id"),
    "write its state": own_file(0o600),
    "write its own /tmp": write("/tmp/probe"),
    "a local socket": family(socket.AF_UNIX),
    "an internet socket": family(socket.AF_INET),
    "start a process": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "write to /dev/null": write("/dev/null"),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except subprocess.CalledProcessError:
        return "failed"
    return "done"


def main() -> None:
    places = ("/", "/etc", "/usr", "/opt", "/var", "/home", "/var/lib/govterm", "/tmp")
    answer = {
        "forbidden": {name: outcome(FORBIDDEN[name]) for name in sys.argv[1:] or FORBIDDEN},
        "allowed": {name: outcome(attempt) for name, attempt in ALLOWED.items()},
        "umask": oct(os.umask(0)),
        "/tmp": os.listdir("/tmp"),
        "writable": [place for place in places if not os.statvfs(place).f_flag & os.ST_RDONLY],
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
