"""Renders what the host's systemd, udev and polkit need, for the virtual environment this runs in."""

import socket
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from runtime.egress import Endpoint, parse_ip

FILES = {
    "govterm.service.in": "etc/systemd/system/govterm.service",
    "govterm.socket": "etc/systemd/system/govterm.socket",
    "govterm-retry.timer": "etc/systemd/system/govterm-retry.timer",
    "sysusers.conf": "etc/sysusers.d/govterm.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/govterm.conf",
    "modules-load.conf": "etc/modules-load.d/govterm.conf",
    "99-govterm.rules": "etc/udev/rules.d/99-govterm.rules",
    "50-govterm.rules": "etc/polkit-1/rules.d/50-govterm.rules",
    "pwquality.conf": "etc/security/pwquality.conf.d/50-govterm.conf",
}
"""Each file of `systemd/` and its place under the root directory."""

EGRESS = "etc/systemd/system/govterm.service.d/10-egress.conf"
"""The place of the drop-in that lets the configured addresses through."""

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
_DROP_IN = """\
# Written by `govterm units --config`: the addresses of the configured endpoints, and the resolvers if one has a name.
# Write it again when one of them changes (docs/egress.md).
[Service]
"""
_HOSTS = Path("/etc/hosts")
_RESOLVERS = Path("/etc/resolv.conf")


class UnitsError(Exception):
    """The unit files cannot serve: `units.hidden`, the unit would hide this environment; `units.no_address`, a
    configured name cannot be looked up (retry); `units.no_templates`.
    """

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = code == "units.no_address"
        self.advice = advice


def render(output: Path, environment: Path = Path(sys.prefix), allowed: Iterable[Endpoint] | None = None) -> list[Path]:
    """Write every file below `output` (`/` installs them) for the virtual environment at `environment`.

    The unit has the kernel refuse every address (T20); with the endpoints that are `allowed`, a drop-in lets theirs
    through, whose names are looked up now. Raises UnitsError, and OSError when a file cannot be written.
    """
    if _is_hidden(environment.resolve()):
        raise UnitsError(
            "units.hidden",
            f"the unit hides {environment} from the daemon (ProtectHome=)",
            advice="install into /opt/govterm instead",
        )
    templates = _templates()
    texts = {place: (templates / name).read_text().replace("@VENV@", str(environment)) for name, place in FILES.items()}
    if allowed is not None:
        texts[EGRESS] = _drop_in(addresses(allowed))
    written = []
    for place, text in texts.items():
        target = output / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o644)
        written.append(target)
    return written


def addresses(allowed: Iterable[Endpoint]) -> list[str]:
    """Return what the unit must let through, sorted: each endpoint's addresses, and the resolvers (resolv.conf(5)) when
    a name is not in /etc/hosts. Raises UnitsError (`units.no_address`).
    """
    found = set()
    for endpoint in allowed:
        if endpoint.ip is not None:
            found.add(str(endpoint.ip))
            continue
        try:
            answers = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnitsError(
                "units.no_address",
                f"{endpoint.host} has no address: {error}",
                advice="render where the name can be looked up, or put it into /etc/hosts",
            ) from None
        found |= {str(parse_ip(str(place[0]))) for *_, place in answers}
        if not _is_in_hosts(endpoint.host):
            found |= _resolvers()
    return sorted(found, key=lambda text: (ip_address(text).version, int(ip_address(text))))


def _is_in_hosts(name: str) -> bool:
    """Tell whether /etc/hosts has a name, which then needs no resolver."""
    return any(name.lower() in line.partition("#")[0].lower().split()[1:] for line in _lines(_HOSTS))


def _resolvers() -> set[str]:
    """Return the servers of resolv.conf(5); without one it is this machine."""
    words = [line.split() for line in _lines(_RESOLVERS)]
    found = {parse_ip(word[1]) for word in words if word[:1] == ["nameserver"] and len(word) > 1}
    return {str(address) for address in found if address is not None} or {"127.0.0.1"}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _drop_in(found: Iterable[str]) -> str:
    return _DROP_IN + "".join(f"IPAddressAllow={address}\n" for address in found)


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
