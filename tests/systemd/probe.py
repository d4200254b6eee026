"""Runs in place of the daemon under its unit: tries what the sandbox forbids and prints what came of it, as JSON.

With arguments it tries these alone. Each attempt is made by a process of its own and leaves nothing behind where it is
let through, so that the same attempts can be made outside the unit, by root too.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Attempt = Callable[[], object]

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
MAP_FAILED = ctypes.c_void_p(-1).value
READ_WRITE, READ_EXECUTE = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
PTRACE_TRACEME, PERSONALITY_32, SYSLOG_SIZE = 0, 8, 10
IPC_PRIVATE, IPC_CREAT = 0, 0o1000
ON_X86_64 = os.uname().machine == "x86_64"
KEYCTL, REBOOT, KCMP, USERFAULTFD, CLOCK_SETTIME = (250, 169, 312, 323, 227) if ON_X86_64 else (219, 142, 272, 282, 112)
IO_URING_SETUP, X32_GETPID = 425, 0x40000000 + 39
KEYS = os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/govterm.service")
NODE, PORT, PLANTED, PROGRAM = "/dev/probe", "/dev/probe-port", "probe-planted", "/opt/probe-id"
SHARED_MEMORY = 0x676F7674
"""What the tests lay out: two devices that everybody may open, of a class that the unit does not allow and of one that
it does; files of this name; id(1), set-user-id; and a piece of shared memory under this key."""
NOBODY = 65534


def call(name: str, *arguments: object, let_through: tuple[int, ...] = ()) -> Attempt:
    """Make an attempt of a libc function that answers -1 when it is refused.

    `let_through` is what the kernel says of senseless arguments, or of what it lacks, once it has let the call through.
    """

    def attempt() -> None:
        if getattr(LIBC, name)(*arguments) in (-1, MAP_FAILED) and ctypes.get_errno() not in let_through:
            raise OSError(ctypes.get_errno(), name)

    return attempt


def read(path: str) -> Attempt:
    return lambda: Path(path).read_bytes()


def planted(place: str) -> Attempt:
    return lambda: Path(place, PLANTED).read_bytes()


def write(path: str) -> Attempt:
    """Make an attempt to open a file that is there for writing; nothing is written."""
    return lambda: os.close(os.open(path, os.O_WRONLY))


def open_port() -> None:
    """Most boards have no fourth serial port, which the kernel tells once it has let the open through."""
    try:
        os.close(os.open(PORT, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EIO):
            raise


def create(place: str, mode: int = 0o600) -> Attempt:
    """Make an attempt to have a file of its own there."""

    def attempt() -> None:
        file = Path(place, f"probe-{os.getpid()}")
        file.touch(exist_ok=False)
        try:
            file.write_text("x")
            file.chmod(mode)
        finally:
            file.unlink()

    return attempt


def family(name: int, kind: int = socket.SOCK_DGRAM) -> Attempt:
    return lambda: socket.socket(name, kind).close()


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"data", ("127.0.0.1", 9))


def executable_later() -> None:
    """Write into memory, then make it executable, as a compiler at run time does."""
    address = LIBC.mmap(None, 4096, READ_WRITE, PRIVATE, -1, 0)
    call("mprotect", ctypes.c_void_p(address), 4096, READ_EXECUTE)()


def execute(place: str) -> Attempt:
    """Make an attempt to run a program of its own writing."""

    def attempt() -> None:
        path = Path(place, f"probe-{os.getpid()}")
        try:
            path.write_text("#!/bin/sh\n")
            path.chmod(0o700)
            subprocess.run([path], check=True)
        finally:
            path.unlink(missing_ok=True)

    return attempt


def map_executable(place: str) -> Attempt:
    """Make an attempt to load code of its own writing, as dlopen(3) would."""

    def attempt() -> None:
        path = Path(place, f"probe-{os.getpid()}")
        path.write_bytes(bytes(4096))
        try:
            with path.open("rb") as file:
                call("mmap", None, 4096, READ_EXECUTE, mmap.MAP_PRIVATE, file.fileno(), 0)()
        finally:
            path.unlink(missing_ok=True)

    return attempt


def make_node() -> None:
    """The kernel's log, which no unit of this kind may open."""
    path = f"/var/lib/govterm/probe-{os.getpid()}"
    os.mknod(path, 0o20600, os.makedev(1, 11))
    os.unlink(path)


def become_root() -> None:
    """By a set-user-id program, as sudo is one."""
    if subprocess.run([PROGRAM, "-u"], check=True, capture_output=True).stdout != b"0\n":
        raise PermissionError(errno.EPERM, "still itself")


def share_mounts() -> None:
    if os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt"):
        raise PermissionError(errno.EPERM, "mounts of its own")


FORBIDDEN: dict[str, Attempt] = {
    "read the shadow file": read("/etc/shadow"),
    "read a key on the disk": read("/etc/govterm/credentials/terminal.key"),
    "write a credential": write(f"{KEYS}/terminal.key"),
    "read a file of a home": planted("/home"),
    "read a file of root's home": planted("/root"),
    "read another's file in /tmp": planted("/tmp"),
    "write the models": create("/var/lib/govterm-models"),
    "write the configuration": write("/etc/govterm/govterm.toml"),
    "write its own program": create("/opt/govterm/bin"),
    "write a kernel setting": write("/proc/sys/net/ipv4/ip_forward"),
    "see PID 1": read("/proc/1/status"),
    "read PID 1's environment": read("/proc/1/environ"),
    "share PID 1's mounts": share_mounts,
    "write control groups": write("/sys/fs/cgroup/cgroup.procs"),
    "another's shared memory": call("shmget", SHARED_MEMORY, 1, 0),
    "open another device": write(NODE),
    "a device node": make_node,
    "a packet socket": family(socket.AF_PACKET),
    "a VM socket": family(socket.AF_VSOCK, socket.SOCK_STREAM),
    "send to this machine": send,
    "mount": call("mount", b"none", b"/tmp", b"no-such-type", 0, None, let_through=(errno.ENODEV,)),
    "a user namespace": call("unshare", CLONE_NEWUSER),
    "a mount namespace": call("unshare", CLONE_NEWNS),
    "ptrace": call("ptrace", PTRACE_TRACEME, 0, None, None),
    "memory to write and execute": call("mmap", None, 4096, READ_WRITE | mmap.PROT_EXEC, PRIVATE, -1, 0),
    "memory made executable later": executable_later,
    "memory with a file name": lambda: os.close(os.memfd_create("probe")),
    "memory shared by name": create("/dev/shm"),
    "a program in its state": execute("/var/lib/govterm"),
    "a program in its /tmp": execute("/tmp"),
    "a program in /var/tmp": execute("/var/tmp"),
    "a program in its runtime directory": execute("/run/govterm"),
    "a library in its state": map_executable("/var/lib/govterm"),
    "a library in its /tmp": map_executable("/tmp"),
    "io_uring": call("syscall", IO_URING_SETUP, 1, ctypes.create_string_buffer(256)),
    "a key of the kernel's": call("syscall", KEYCTL, 0, -1, 1),
    "compare processes": call("syscall", KCMP, os.getpid(), os.getpid(), 1, 0, 0),
    "another process's memory": call("process_vm_readv", os.getpid(), None, 0, None, 0, 0),
    "write another process's memory": call("process_vm_writev", os.getpid(), None, 0, None, 0, 0),
    "page faults of its own": call("syscall", USERFAULTFD, 1),
    "another personality": call("personality", PERSONALITY_32),
    "another user": lambda: os.setuid(NOBODY),
    "root by a set-user-id program": become_root,
    "a set-user-id file": create("/var/lib/govterm", 0o4755),
    "a set-group-id file": create("/var/lib/govterm", 0o2755),
    "chroot": lambda: os.chroot("/tmp"),
    "real-time scheduling": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "another priority": lambda: os.nice(1),
    "set the clock": call("syscall", CLOCK_SETTIME, 0, (ctypes.c_long * 2)(0, -1), let_through=(errno.EINVAL,)),
    "set the host name": call("sethostname", b"probe", -1, let_through=(errno.EINVAL,)),
    "reboot": call("syscall", REBOOT, 0, 0, 0, 0, let_through=(errno.EINVAL,)),
    "load a module": call("init_module", None, 0, b"", let_through=(errno.ENOEXEC, errno.ENOSYS)),
    "read the kernel's modules": planted("/usr/lib/modules"),
    "ask the kernel's log": call("klogctl", SYSLOG_SIZE, None, 0),
}
if ON_X86_64:
    FORBIDDEN["a call of another architecture"] = call("syscall", X32_GETPID, let_through=(errno.ENOSYS,))

ALLOWED: dict[str, Attempt] = {
    "read its configuration": read("/etc/govterm/govterm.toml"),
    "read a credential": read(f"{KEYS}/terminal.key"),
    "read the models": lambda: [path.read_bytes() for path in Path("/var/lib/govterm-models").glob("*.onnx")][1],
    "read the boot id": read("/proc/sys/kernel/random/boot_id"),
    "write its state": create("/var/lib/govterm"),
    "write its own /tmp": create("/tmp"),
    "open a serial port": open_port,
    "a local socket": family(socket.AF_UNIX),
    "an internet socket": family(socket.AF_INET),
    "shared memory": call("shmget", IPC_PRIVATE, 4096, IPC_CREAT | 0o600),
    "start a process": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "write to /dev/null": write("/dev/null"),
}


def outcome(attempt: Attempt) -> str:
    """Make an attempt in a process of its own; return `done`, the error's name, or the signal that ended it."""
    answer, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
            came = "done"
        except OSError as error:
            came = errno.errorcode.get(error.errno or 0, str(error))
        except subprocess.CalledProcessError:
            came = "failed"
        os.write(told, came.encode())
        os._exit(0)
    os.close(told)
    with open(answer, encoding="ascii") as reader:
        came = reader.read()
    status = os.waitpid(child, 0)[1]
    return came or signal.Signals(os.WTERMSIG(status)).name


def main() -> None:
    places = ("/", "/etc", "/usr", "/opt", "/var", "/home", "/var/lib/govterm", "/tmp")
    attempts = FORBIDDEN | ALLOWED
    answer = {
        "came": {name: outcome(attempts[name]) for name in sys.argv[1:] or attempts},
        "umask": oct(os.umask(0)),
        "writable": [place for place in places if not os.statvfs(place).f_flag & os.ST_RDONLY],
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
