"""A view of the whole file system in which whatever any process writes, anywhere, lies in one place to be searched."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_INSIDE = "GOVTERM_PRIVACY_NAMESPACE"
_ASIDE = Path("/mnt")
"""Where the tmpfs is mounted, in this program's own view alone; what is there otherwise is out of sight."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the name of the mount
_KERNELS = {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "bpf", "tracefs"}
_KERNELS |= {"debugfs", "hugetlbfs", "pstore", "configfs", "fusectl", "binfmt_misc", "efivarfs", "autofs", "nsfs"}
"""File systems without files: what is written there is the kernel's at once."""


class OverlayError(RuntimeError):
    """This machine lets nobody mount such a view; the message says why."""


def enter() -> None:
    """Run this program again where mounts are its own, unless it does already; raise OverlayError."""
    if os.environ.get(_INSIDE) == "1":
        return
    if os.geteuid() != 0:
        raise OverlayError("only root may mount an overlay and read the memory of other processes: run it as root")
    probed = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probed.returncode:
        raise OverlayError(f"no mount namespace: {probed.stderr.strip()}")
    _again(["unshare", "--mount", "--propagation", "private", sys.executable, *sys.orig_argv[1:]])


def write_aside(kept: Path | None = None) -> Callable[[], list[Path]]:
    """From now on have this process and its children write to a tmpfs, wherever they write but in the directory `kept`.

    The root and every mount that can be written get an overlay whose upper half lies there; what lies in memory already
    (/dev/shm) is another one, empty. The function that is returned says where to search. Raises OverlayError when the
    kernel does not let it.
    """
    mounts = _mounts()
    _mount("-t", "tmpfs", "tmpfs", str(_ASIDE))
    root, written = _ASIDE / "root", _ASIDE / "written"
    for number, (target, kind) in enumerate(mounts):
        place, upper, work = Path(f"{root}{target}"), written / str(number), _ASIDE / "work" / str(number)
        for directory in (upper, work, root):
            directory.mkdir(parents=True, exist_ok=True)
        if kind in _KERNELS:
            _mount("--bind", target, str(place))
        elif target == _SHARED_MEMORY:
            _mount("--bind", str(upper), str(place))
        else:
            _mount("-t", "overlay", "overlay", "-o", f"lowerdir={target},upperdir={upper},workdir={work}", str(place))
    _mount("--bind", str(_ASIDE), f"{root}{_ASIDE}")
    if kept is not None:
        _mount("--bind", str(kept), f"{root}{kept}")
    here = Path.cwd()
    os.chroot(root)
    os.chdir(here)
    return lambda: [place for place in _ASIDE.iterdir() if place.name not in {"root", "work"}]


def _mounts() -> list[tuple[str, str]]:
    """Return the mounted directories that matter and their types, the root first; the topmost of each."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, target, kind, options, *_ = line.split()
        target = target.replace("\\040", " ")
        is_writable = "rw" in options.split(",")
        found.pop(target, None)
        if Path(target).is_dir() and (is_writable or target == "/" or kind in _KERNELS):
            found[target] = kind
    inside = ("/proc/", "/sys/")
    return sorted((target, kind) for target, kind in found.items() if not target.startswith(inside))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OverlayError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def _again(command: list[str]) -> NoReturn:
    os.execvpe(command[0], command, {**os.environ, _INSIDE: "1"})  # noqa: S606 - replaces this command
