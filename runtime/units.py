"""Renders what the host's systemd, udev and polkit need, for the virtual environment this runs in."""

import sys
from pathlib import Path

FILES = {
    "govterm.service.in": "etc/systemd/system/govterm.service",
    "govterm.socket": "etc/systemd/system/govterm.socket",
    "govterm-retry.timer": "etc/systemd/system/govterm-retry.timer",
    "sysusers.conf": "etc/sysusers.d/govterm.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/govterm.conf",
    "modules-load.conf": "etc/modules-load.d/govterm.conf",
    "99-govterm.rules": "etc/udev/rules.d/99-govterm.rules",
    "50-govterm.rules": "etc/polkit-1/rules.d/50-govterm.rules",
}
"""Each file of `systemd/` and its place under the root directory."""

STEPS = (
    "systemd-sysusers",
    "systemd-tmpfiles --create",
    "systemctl restart systemd-modules-load",
    "udevadm control --reload && udevadm trigger",
    "systemctl daemon-reload",
    "systemctl enable --now govterm.service",
)
"""What puts the files into force, to be run as root after the configuration and the keys lie in /etc/govterm."""

_HIDDEN = ("/home", "/root", "/run/user")


class UnitsError(Exception):
    """The unit files cannot serve: `units.hidden`, the unit would hide this environment; `units.no_templates`."""

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = False
        self.advice = advice


def render(output: Path, environment: Path = Path(sys.prefix)) -> list[Path]:
    """Write every file below `output` (`/` installs them) for the virtual environment at `environment`.

    Raises UnitsError, and OSError when a file cannot be written.
    """
    if _is_hidden(environment.resolve()):
        raise UnitsError(
            "units.hidden",
            f"the unit hides {environment} from the daemon (ProtectHome=)",
            advice="install into /opt/govterm instead",
        )
    written = []
    for name, place in FILES.items():
        text = (_templates() / name).read_text().replace("@VENV@", str(environment))
        target = output / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o644)
        written.append(target)
    return written


def hidden_interpreter(environment: Path = Path(sys.prefix)) -> Path | None:
    """Return the Python behind the environment if the unit hides it, as one of uv or pyenv in a home directory."""
    interpreter = (environment / "bin/python").resolve()
    return interpreter if _is_hidden(interpreter) else None


def _is_hidden(path: Path) -> bool:
    return str(path).startswith(tuple(f"{place}/" for place in _HIDDEN))


def _templates() -> Path:
    """Return `systemd/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    for place in (package / "systemd", package.parent / "systemd"):
        if (place / "govterm.service.in").is_file():
            return place
    raise UnitsError("units.no_templates", "the unit templates are missing", advice="install govterm anew")
