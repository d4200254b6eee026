"""A Debian tree with the daemon's dependencies, made once and kept outside the repository, and the wheel to install."""

import fcntl
import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path("/var/cache/govterm-tests")
REPOSITORY = Path(__file__).parents[2]
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = "systemd,systemd-sysv,dbus,polkitd,udev,python3-venv,nut-server,supervisor"
"""The last two for the power plan and for the benchmark; neither is started at boot."""

_UV = Path(sys.prefix) / "bin/uv"


@contextmanager
def kept_tree() -> Iterator[Path]:
    """Yield the tree: Debian with systemd, and /opt/govterm with every locked dependency of the daemon.

    It is built when there is none, and no other run replaces it meanwhile.
    """
    locked = _run(_UV, "export", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--quiet")
    key = hashlib.sha256(f"{RELEASE} {PACKAGES} {locked}".encode()).hexdigest()[:16]
    tree = CACHE / f"tree-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not tree.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not tree.exists():
                _build(tree, locked)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield tree


def _build(tree: Path, locked: str) -> None:
    started = CACHE / "started"
    for stale in (started, *CACHE.glob("tree-*")):
        _run("rm", "--recursive", "--force", "--one-file-system", stale)
    _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", RELEASE, started)
    _run("systemctl", f"--root={started}", "--quiet", "mask", "nut-server", "nut-driver.target", "supervisor")
    _run("chroot", started, "python3", "-m", "venv", "/opt/govterm")
    wanted = CACHE / "requirements.txt"
    wanted.write_text(locked)
    place = started / f"opt/govterm/lib/python{PYTHON}/site-packages"
    machine = f"--python-platform={platform.machine()}-manylinux_2_36"
    options = ("--quiet", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", machine)
    _run(_UV, "pip", "install", *options, "--target", place, "--requirements", wanted)
    started.rename(tree)


def build_wheel(output: Path) -> Path:
    """Build the wheel from this checkout."""
    _run(_UV, "build", "--quiet", "--wheel", "--out-dir", output)
    (wheel,) = output.glob("*.whl")
    return wheel


def build_photo_library(output: Path) -> Path:
    """Compile a stand-in for the vendor's photo library."""
    source = output / "photo.c"
    source.write_text("int unpack(const unsigned char *block, unsigned char *bgr, int size) { return size > 0; }\n")
    library = output / "libphoto.so"
    _run("cc", "-shared", "-fPIC", "-nostdlib", "-o", library, source)
    return library


def _run(*command: Path | str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=REPOSITORY, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done.stdout
