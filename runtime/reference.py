"""Writes `docs/configuration.md` from the Structs: `python -m runtime.reference > docs/configuration.md`."""

import sys

import msgspec
from msgspec import inspect, structs

from runtime.check import describe, section_of
from runtime.config import Settings

EXAMPLE = """\
state_directory = "/var/lib/govterm"

[api]
ui_users = ["kiosk"]
operator_users = ["root"]

[session]
idle_seconds = 90

[idcard]
port = "/dev/serial/by-id/usb-Reader_SAM-V-if00-port0"

[printer]
port = "/dev/serial/by-id/usb-Printer_80mm-if00"
width_dots = 576

[vision]
camera = "/dev/v4l/by-id/usb-Camera_Face-video-index0"
photo_library = "/opt/vendor/lib/libphoto.so"

[platform]
host = "broker.example.gov.cn"
terminal_id = "HALL-0001"
ca_file = "ca.pem"
certificate_file = "terminal.pem"
private_key_file = "terminal.key"
identity_key_file = "identity.der"
signing_key_file = "platform.der"
seal_key_file = "seal.der"
"""
"""A configuration that passes the check."""

_INTRODUCTION = """\
# Configuration

One TOML file, `/etc/govterm/govterm.toml` on a board. `govterm check FILE` lists every mistake in it; the daemon
refuses to start while there is one, and an unknown key is one. Relative names of keys and certificates are sought in
`$CREDENTIALS_DIRECTORY`, which systemd fills from the unit's `LoadCredential=` lines. This page is generated:
`python -m runtime.reference > docs/configuration.md`.
"""

_UNITS = {
    "seconds": "s",
    "bytes": "byte",
    "dots": "dot",
    "millimetres": "mm",
    "inch": "dot/inch",
    "baud": "bit/s",
}


def reference() -> str:
    """Return the page: each section's keys with type and limits, unit, default and meaning, and an example."""
    sections = [(field, kind) for field in structs.fields(Settings) if (kind := section_of(field.type))]
    plain = [field for field in structs.fields(Settings) if not section_of(field.type)]
    parts = [_INTRODUCTION, "## Top level\n", _table(plain)]
    for field, kind in sections:
        needed = "" if field.required else " The section may be left out."
        if not field.required and field.default is None:
            needed = " Without the section this terminal has none."
        parts += [f"## `[{field.name}]`\n", f"{kind.__doc__}{needed}\n", _table(structs.fields(kind))]
    parts += ["## Example\n", f"```toml\n{EXAMPLE}```\n"]
    return "\n".join(parts)


def _table(fields: tuple[structs.FieldInfo, ...] | list[structs.FieldInfo]) -> str:
    rows = ["| key | value | unit | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for field in fields:
        info = inspect.type_info(field.type)
        schema = info.extra_json_schema if isinstance(info, inspect.Metadata) else None
        unit = _UNITS.get(field.name.rpartition("_")[2], "")
        meaning = (schema or {})["description"]
        rows.append(f"| `{field.name}` | {describe(field.type)} | {unit} | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field: structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "none"
    return f"`{msgspec.json.encode(field.default).decode()}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
