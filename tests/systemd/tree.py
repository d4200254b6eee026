"""A Debian tree with the daemon's dependencies, made once and kept outside the repository, and the wheel to install."""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path

CACHE = Path("/var/cache/govterm-tests")
REPOSITORY = Path(__file__).parents[2]
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = "systemd,systemd-sysv,dbus,polkitd,udev,python3-venv"

_UV = Path(sys.prefix) / "bin/uv"


def build_tree() -> Path:
    """Return the tree: Debian with systemd, and /opt/govterm with every locked dependency of the daemon."""
    locked = _run(_UV, "export", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--quiet")
    key = hashlib.sha256(f"{RELEASE} {PACKAGES} {locked}".encode()).hexdigest()[:16]
    tree = CACHE / f"tree-{key}"
    if tree.exists():
        return tree
    _run("rm", "--recursive", "--force", "--one-file-system", CACHE)
    CACHE.mkdir(parents=True)
    started = CACHE / "started"
    _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", RELEASE, started)
    _run("chroot", started, "python3", "-m", "venv", "/opt/govterm")
    wanted = CACHE / "requirements.txt"
    wanted.write_text(locked)
    place = started / f"opt/govterm/lib/python{PYTHON}/site-packages"
    machine = f"--python-platform={platform.machine()}-manylinux_2_36"
    options = ("--quiet", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", machine)
    _run(_UV, "pip", "install", *options, "--target", place, "--requirements", wanted)
    started.rename(tree)
    return tree


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
