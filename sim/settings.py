"""A rig's own configuration, the files around it, and the configuration it writes for the daemon."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime.credentials import platform_section
from sim.people import DISTRICTS
from sim.trust import Trust, make_trust
from transport.errors import TransportError
from vision.store import cache_directory

LONGEST_SOCKET_PATH = 107  # sun_path of Linux holds 108 bytes with the closing zero

BAUD = {
    "idcard": 115_200,
    "printer": 460_800,
    "fingerprint": 57_600,
    "cardreader": 9_600,
    "pinpad": 9_600,
    "ups": 2_400,
    "environment": 9_600,
}
"""Each peripheral of the rig and the line rate of its port.

The printer's is high: a certificate is some 50 kB of dots, over 4 s at 115,200 bit/s, most of what T13 leaves.
"""

Person = Literal["nobody", "grace_hopper", "eileen_collins"]


class RigSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be said about a rig; `rig.toml` holds it."""

    terminal_id: Annotated[str, Meta(pattern="^[A-Za-z0-9-]{4,32}$")] = "RIG-0001"
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 1
    broker_port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    nut_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    person: Person = "grace_hopper"


class RigError(RuntimeError):
    """The rig cannot be made or started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RigFiles:
    """Where everything of a rig lies. `sockets` is the same directory, or a short name of it."""

    directory: Path
    sockets: Path

    @property
    def settings(self) -> Path:
        """The rig's own configuration."""
        return self.directory / "rig.toml"

    @property
    def daemon_settings(self) -> Path:
        """The configuration for the daemon."""
        return self.directory / "govterm.toml"

    @property
    def trust(self) -> Trust:
        """Keys and certificates."""
        return Trust.in_directory(self.trust_directory)

    @property
    def trust_directory(self) -> Path:
        """The directory of keys, certificates and the broker's own file."""
        return self.directory / "trust"

    @property
    def state(self) -> Path:
        """The daemon's state directory."""
        return self.directory / "state"

    @property
    def paper(self) -> Path:
        """Where each printed piece of paper goes as a PNG."""
        return self.directory / "paper"

    @property
    def platform_database(self) -> Path:
        """What the platform received, SQLite."""
        return self.directory / "platform.db"

    @property
    def platform_log(self) -> Path:
        """The log of the platform's process."""
        return self.directory / "platform.log"

    @property
    def daemon_log(self) -> Path:
        """The log of the daemon and its vision process, when the demo runs them."""
        return self.directory / "daemon.log"

    @property
    def control(self) -> Path:
        """The rig's control socket."""
        return self.sockets / "rig.sock"

    @property
    def platform_control(self) -> Path:
        """The control socket of the platform's process, to which the rig forwards."""
        return self.sockets / "platform.sock"

    @property
    def camera(self) -> Path:
        """The face camera's socket."""
        return self.sockets / "camera.sock"

    @property
    def document_camera(self) -> Path:
        """The document camera's socket."""
        return self.sockets / "document.sock"

    def port(self, kind: str) -> Path:
        """Return the serial port of a peripheral, named like its kind."""
        return self.sockets / kind

    @property
    def api(self) -> Path:
        """The daemon's API socket."""
        return self.sockets / "govterm.sock"

    @property
    def previews(self) -> Path:
        """The daemon's preview socket."""
        return self.sockets / "preview.sock"


def free_port() -> int:
    """Return a TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_rig(files: RigFiles, settings: RigSettings) -> None:
    """Write a new rig: its configuration, its keys, and the configuration for the daemon.

    Raises RigError when there is a rig already, or when the path is too long for sockets.
    """
    if len(os.fsencode(files.platform_control)) > LONGEST_SOCKET_PATH:
        raise RigError(f"{files.sockets}: too long a path for sockets; choose a shorter directory")
    try:
        files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_trust(files.trust_directory, settings.terminal_id, settings.broker_port)
        for directory in (files.state, files.paper):
            directory.mkdir(mode=0o700, exist_ok=True)
        files.settings.write_text(_toml(msgspec.to_builtins(settings)), encoding="utf-8")
        files.daemon_settings.write_text(_daemon_toml(files), encoding="utf-8")
    except FileExistsError as error:
        raise RigError(f"{files.directory}: there is a rig already; name a new directory") from error
    except OSError as error:
        raise RigError(f"{error.filename}: {error.strerror}") from error
    except TransportError as error:
        raise RigError(f"{error}; {error.advice}") from error


def load_rig(file: Path) -> tuple[RigFiles, RigSettings]:
    """Read a rig's configuration; raise RigError with what is wrong."""
    directory = file.absolute().parent
    try:
        settings = msgspec.toml.decode(file.read_bytes(), type=RigSettings)
    except OSError as error:
        raise RigError(f"{file}: {error.strerror}; make a rig with `govterm rig init DIR`") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RigError(f"{file}: {error}") from error
    return RigFiles(directory, directory), settings


def _toml(section: Mapping[str, str | int | bool | list[str]]) -> str:
    # A JSON string, number, truth value or list of them is written the same in TOML.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())


def _daemon_toml(files: RigFiles) -> str:
    sections: dict[str, Mapping[str, str | int | bool | list[str]]] = {
        "api": {
            "socket": str(files.api),
            "preview_socket": str(files.previews),
            "ui_users": [str(os.getuid())],
            "staff": "listed",
        },
        **{kind: {"port": str(files.port(kind)), "baud": baud} for kind, baud in BAUD.items()},
        "vision": {
            "camera": f"rig:{files.camera}",
            "document_camera": f"rig:{files.document_camera}",
            "model_directory": str(cache_directory() / "models"),
            "photo_decoder": "rig",
            "challenge": 0,
        },
        "platform": platform_section(files.trust.terminal),
        # What is plugged into this machine, and where its routes go, is nothing of the rig's.
        "security": {"usb": "ignore", "network": "ignore"},
    }
    top = _toml({"rig": True, "state_directory": str(files.state), "districts": list(DISTRICTS)})
    return top + "".join(f"\n[{name}]\n{_toml(section)}" for name, section in sections.items())
