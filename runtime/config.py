"""The configuration: one TOML file, put together from each package's own Struct. `docs/configuration.md` lists it."""

import os
import pwd
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from devices.config import CardReader, Environment, Fingerprint, IdCard, PinPad, Printer, Ups
from runtime import drivers
from runtime.check import Mistake, convert, parse_toml
from runtime.policy import Security
from runtime.power_settings import Power
from transport.config import Platform
from vision.config import Vision

_LONGEST_SOCKET_PATH = 107  # sun_path of Linux holds 108 bytes with the closing zero
_LARGEST_FILE_BYTES = 1 << 20
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
"""A name or IPv4 address, or an IPv6 address: at least two colons."""
_STAFF = ("operator_users", "tester_users")
_NO_UI = "a user who is not in ui_users: whoever serves citizens has no other role"


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The local API: who may call it, and where."""

    ui_users: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(min_length=1, description="Users (names or numeric ids) whose processes serve citizens: role `ui`."),
    ]
    operator_users: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Users (names or numeric ids) who maintain the terminal: role `operator`."),
    ] = ()
    tester_users: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Users (names or numeric ids) who try the line: role `tester`; they may be operators too."),
    ] = ()
    staff: Annotated[
        Literal["granted", "listed"],
        Meta(
            description="`granted`: a listed user has a role only while a grant of the platform says so; "
            "`listed`: whoever is listed has it."
        ),
    ] = "granted"
    socket: Annotated[str, Meta(min_length=1, description="Unix socket of the JSON-RPC API.")] = (
        "/run/govterm/govterm.sock"
    )
    preview_socket: Annotated[str, Meta(min_length=1, description="Unix socket of the camera previews.")] = (
        "/run/govterm/preview.sock"
    )
    line_limit_bytes: Annotated[
        int, Meta(ge=4_096, le=1_048_576, description="Longest line accepted from a client, in bytes.")
    ] = 65_536
    ui_silence_seconds: Annotated[
        float, Meta(ge=3, le=300, description="A UI that promised `ui.heartbeat` and is silent for this long is lost.")
    ] = 15.0


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A citizen's session."""

    idle_seconds: Annotated[
        float, Meta(ge=5, le=600, description="A session without a request for this long ends and is wiped.")
    ] = 90.0
    longest_seconds: Annotated[
        float, Meta(ge=30, le=7_200, description="A session ends and is wiped after this long, whatever happens.")
    ] = 1_200.0
    warn_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=120,
            description="How long before such an end its citizen is warned; half of the idle time at most.",
        ),
    ] = 20.0
    clear_seconds: Annotated[
        float,
        Meta(ge=1, le=300, description="How long a citizen may take to take cards and paper before they are taken in."),
    ] = 45.0


class Payment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payments."""

    scan_seconds: Annotated[
        float,
        Meta(ge=10, le=600, description="How long a citizen may take to pay a QR order before it is given up."),
    ] = 120.0
    reconcile_hour: Annotated[
        int, Meta(ge=0, le=23, description="From this hour on, in China, the day before is compared with the platform.")
    ] = 1


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration of a terminal."""

    api: Api
    idcard: IdCard
    printer: Printer
    vision: Vision
    platform: Platform
    fingerprint: Fingerprint | None = None
    cardreader: CardReader | None = None
    pinpad: PinPad | None = None
    ups: Ups | None = None
    environment: Environment | None = None
    session: Session = Session()
    payment: Payment = Payment()
    power: Power = Power()
    security: Security = Security()
    districts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=20)], ...],
        Meta(max_length=100, description="Districts that a hotline request may name; any when none is listed."),
    ] = ()
    rig: Annotated[
        bool,
        Meta(description="Load the rig's photo decoder and cameras. Never on a terminal that serves citizens."),
    ] = False
    state_directory: Annotated[
        str, Meta(pattern="^/", description="Directory of the journal and the audit log, owned by the daemon's user.")
    ] = "/var/lib/govterm"

    @property
    def devices(self) -> dict[str, "Peripheral"]:
        """The section of each peripheral this terminal has, by its kind."""
        sections = ((kind, getattr(self, kind)) for kind in drivers.KINDS)
        return {kind: section for kind, section in sections if section is not None}

    @property
    def journal_file(self) -> Path:
        """The journal's SQLite database."""
        return Path(self.state_directory, "journal.db")

    @property
    def audit_file(self) -> Path:
        """The audit log."""
        return Path(self.state_directory, "audit.jsonl")


Peripheral = IdCard | Printer | Fingerprint | CardReader | PinPad | Ups | Environment
"""A peripheral's section."""


class ConfigError(Exception):
    """The configuration cannot be used; `mistakes` lists every one."""

    code = "config.invalid"
    retry = False
    advice = "mend the configuration file; `govterm check FILE` lists every mistake"

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("; ".join(map(str, self.mistakes)))


def load(path: Path | str, *, rig: bool = False) -> Settings:
    """Read and check a configuration file; raise ConfigError with every mistake. Only the rig's launcher sets `rig`."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Mistake(str(path), "a readable file", os.strerror(error.errno or 0))]) from None
    if len(data) > _LARGEST_FILE_BYTES:
        raise ConfigError([Mistake(str(path), f"at most {_LARGEST_FILE_BYTES:,} bytes", "more")])
    return parse(data, rig=rig)


def parse(data: bytes, *, rig: bool = False) -> Settings:
    """Check a configuration given as TOML; raise ConfigError with every mistake."""
    document, mistakes = parse_toml(data)
    if mistakes:
        raise ConfigError(mistakes)
    right: dict[str, Any] = {}
    settings, mistakes = convert(document, Settings, right=right)
    mistakes += _across(right, rig=rig)
    if settings is None or mistakes:
        raise ConfigError(mistakes)
    return settings


def secret_file(name: str) -> Path:
    """Return where a key or certificate lies: a relative name in $CREDENTIALS_DIRECTORY, which systemd fills."""
    return Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), name)


def open_to_others(path: Path) -> bool:
    """Whether others than its owner can read a file that holds a private key or a password; raise OSError.

    systemd may give the daemon its credentials by an access list: what the mode then shows for the group is the list's
    mask, so in $CREDENTIALS_DIRECTORY a group that may read is none.
    """
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    mask = 0o037 if given and path.is_relative_to(given) else 0o077
    return bool(path.stat().st_mode & mask)


def check_machine(settings: Settings) -> list[Mistake]:
    """Return what the settings name but this machine lacks: users, key files, directories."""
    mistakes: list[Mistake] = []
    ui_ids = {_user_id(user) for user in settings.api.ui_users}
    for key in ("ui_users", *_STAFF):
        for user in getattr(settings.api, key):
            user_id = _user_id(user)
            if user_id is None and key == "ui_users":  # `check_accounts` says it of the staff's
                mistakes.append(Mistake(f"api.{key}", "a user of this machine", repr(user)))
            elif user_id is not None and key in _STAFF and user_id in ui_ids:
                mistakes.append(Mistake(f"api.{key}", _NO_UI, repr(user)))
    mistakes += _file_mistakes(settings)
    for kind, section in settings.devices.items():
        try:
            drivers.load(kind, section.driver)
        except drivers.DriverError as error:
            mistakes.append(Mistake(f"{kind}.driver", error.expected, repr(section.driver)))
    if not os.access(settings.state_directory, os.W_OK | os.X_OK):
        mistakes.append(Mistake("state_directory", "a directory the daemon may write", repr(settings.state_directory)))
    return mistakes


def _file_mistakes(settings: Settings) -> list[Mistake]:
    mistakes: list[Mistake] = []
    platform = settings.platform
    for key in ("ca_file", "certificate_file", "private_key_file", "identity_key_file", "signing_key_file"):
        mistakes += _readable(f"platform.{key}", secret_file(getattr(platform, key)))
    mistakes += _readable("platform.seal_key_file", secret_file(platform.seal_key_file))
    for key in ("private_key_file", "identity_key_file"):
        mistakes += _closed(f"platform.{key}", secret_file(getattr(platform, key)))
    if platform.password_file is not None:
        mistakes += _readable("platform.password_file", secret_file(platform.password_file))
        mistakes += _closed("platform.password_file", secret_file(platform.password_file))
    if settings.vision.photo_library is not None:
        mistakes += _readable("vision.photo_library", Path(settings.vision.photo_library))
    if settings.ups is not None and settings.ups.password_file is not None:
        mistakes += _readable("ups.password_file", secret_file(settings.ups.password_file))
        mistakes += _closed("ups.password_file", secret_file(settings.ups.password_file))
    return mistakes


def _user_id(user: str) -> int | None:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _readable(key: str, path: Path) -> list[Mistake]:
    if path.is_file() and os.access(path, os.R_OK):
        return []
    return [Mistake(key, "a readable file", repr(str(path)))]


def _closed(key: str, path: Path) -> list[Mistake]:
    if not path.is_file() or not open_to_others(path):
        return []
    return [
        Mistake(key, "a file that its owner alone can read (chmod 0400)", f"mode {path.stat().st_mode & 0o777:04o}")
    ]


_PATHS = ("api.socket", "api.preview_socket", "vision.model_directory", "vision.model_manifest")
_CAMERAS = ("vision.camera", "vision.document_camera")
_NOT_STABLE = re.compile(r"/dev/tty(USB|ACM)\d+")
_NETWORK = {"ups": "nut://", "printer": "tcp://"}
"""The kinds whose port may be an address."""


def _across(right: Mapping[str, Any], *, rig: bool) -> list[Mistake]:
    """Check what concerns more than one key, as far as the values are `right` by themselves."""
    mistakes = _rig_mistakes(right, rig=rig)
    if right.get("vision.photo_decoder") == "library" and right.get("vision.photo_library", "") is None:
        mistakes.append(
            Mistake("vision.photo_library", 'the vendor\'s library, because photo_decoder is "library"', "nothing")
        )
    paths = {key: right[key] for key in (*_PATHS, "vision.photo_library") if right.get(key) is not None}
    paths |= {key: right[key].removeprefix("rig:") for key in _CAMERAS if right.get(key) is not None}
    mistakes += [
        Mistake(key, "an absolute path", repr(path)) for key, path in paths.items() if not path.startswith("/")
    ]
    mistakes += [
        Mistake(key, f"a path of at most {_LONGEST_SOCKET_PATH} bytes", f"{len(os.fsencode(paths[key]))} bytes")
        for key in ("api.socket", "api.preview_socket")
        if key in paths and len(os.fsencode(paths[key])) > _LONGEST_SOCKET_PATH
    ]
    if paths.get("api.preview_socket", "") == paths.get("api.socket"):
        mistakes.append(Mistake("api.preview_socket", "another path than api.socket", repr(paths["api.socket"])))
    if paths.get("vision.document_camera", "") == paths.get("vision.camera"):
        address = repr(right["vision.document_camera"])
        mistakes.append(Mistake("vision.document_camera", "another camera than vision.camera", address))
    mistakes += _device_mistakes(right)
    mistakes += [
        Mistake(f"api.{key}", _NO_UI, repr(user))
        for key in _STAFF
        for user in right.get(f"api.{key}", ())
        if user in right.get("api.ui_users", ())
    ]
    if (host := right.get("platform.host")) is not None and not _HOST.fullmatch(host):
        mistakes.append(Mistake("platform.host", "a name or an address, without scheme, port or path", repr(host)))
    credentials = [right[key] for key in ("platform.username", "platform.password_file") if key in right]
    if len(credentials) == 2 and credentials.count(None) == 1:
        mistakes.append(Mistake("platform.password_file", "both with platform.username or neither", "one of the two"))
    idle, longest = right.get("session.idle_seconds"), right.get("session.longest_seconds")
    if idle is not None and longest is not None and idle > longest:
        mistakes.append(Mistake("session.idle_seconds", "at most session.longest_seconds", str(idle)))
    mistakes += [
        Mistake(key, "text without a zero character", repr(value))
        for key, value in right.items()
        if "\0" in "".join(value if isinstance(value, tuple) else (str(value),))
    ]
    return mistakes


def _device_mistakes(right: Mapping[str, Any]) -> list[Mistake]:
    """Check the ports against each other, and the drivers against what is installed."""
    mistakes = []
    taken: dict[str, str] = {}
    for kind in drivers.KINDS:
        key, port = f"{kind}.port", right.get(f"{kind}.port")
        if port is not None and not (kind in _NETWORK and port.startswith(_NETWORK[kind])):
            if not port.startswith("/"):
                mistakes.append(Mistake(key, "an absolute path", repr(port)))
            elif _NOT_STABLE.fullmatch(port):
                stable = "a name under /dev/serial/by-id or by-path, which stays the same after a replug"
                mistakes.append(Mistake(key, stable, repr(port)))
            if port in taken:
                mistakes.append(Mistake(key, f"another port than {taken[port]}", repr(port)))
            taken.setdefault(port, key)
        name = right.get(f"{kind}.driver")
        if name is not None and name not in (there := drivers.installed()):
            known = f"an installed driver ({', '.join(there)})" if there else "nothing: no other driver is installed"
            mistakes.append(Mistake(f"{kind}.driver", known, repr(name)))
    return mistakes


def _rig_mistakes(right: Mapping[str, Any], *, rig: bool) -> list[Mistake]:
    """Refuse the rig unless its launcher asks, and the rig's parts on a terminal."""
    mistakes = []
    if right.get("rig") is True and not rig:
        mistakes.append(Mistake("rig", "false: the rig's launcher alone starts a terminal with rig = true", "true"))
    if right.get("rig") is False:
        mistakes += [
            Mistake(key, '"lock" or "alarm" on a terminal without rig = true', '"ignore"')
            for key, value in right.items()
            if key.startswith("security.") and value == "ignore"
        ]
        if right.get("vision.photo_decoder") == "rig":
            mistakes.append(Mistake("vision.photo_decoder", '"library" on a terminal without rig = true', '"rig"'))
        mistakes += [
            Mistake(key, "a camera device on a terminal without rig = true", camera)
            for key in _CAMERAS
            if (camera := right.get(key)) is not None and camera.startswith("rig:")
        ]
    return mistakes
