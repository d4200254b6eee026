"""Configuration of the peripherals, one section for each kind."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from devices.environment.protocol import MOST_REGISTERS
from devices.link import FlowControl, medium
from devices.tcp import parse_address
from devices.ups import nut_protocol


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every peripheral's section may say beside its own keys."""

    driver: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Driver from another distribution, by the name of its entry point; none is the built-in one."),
    ] = None
    identity: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="The only device that may serve: the number of its security module, or its serial number."),
    ] = None
    usb: Annotated[
        Annotated[str, Meta(pattern="^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$")] | None,
        Meta(description="The only USB device that may be at the port, as `VID:PID`."),
    ] = None


class IdCard(Device, frozen=True, forbid_unknown_fields=True):
    """The ID-card reader (SAM-V over a serial line)."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=9600, le=115200, description="Line rate in bit/s.")] = 115200
    card_wait_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long a citizen may take to lay the card down.")
    ] = 60.0


class Printer(Device, frozen=True, forbid_unknown_fields=True):
    """The receipt printer (ESC/POS over a serial line, at USB or on a network)."""

    port: Annotated[
        str,
        Meta(
            min_length=1,
            description="Serial port (use a name under /dev/serial/by-id), USB printer as a name under /dev/usb, or "
            "`tcp://HOST:9100`.",
        ),
    ]
    baud: Annotated[int, Meta(ge=9600, le=921600, description="Line rate in bit/s, for a serial port.")] = 115200
    flow_control: Annotated[
        FlowControl,
        Meta(description="How the printer stops a serial line, as its switches say: `xon_xoff`, `rts_cts`, `none`."),
    ] = "none"
    width_dots: Annotated[
        int,
        Meta(
            ge=384,
            le=832,
            multiple_of=8,
            description="Printable width in dots: 576 on 80 mm paper, 384 on 58 mm.",
        ),
    ] = 576
    dots_per_inch: Annotated[int, Meta(ge=180, le=300, description="Resolution of the print head.")] = 203
    presenter: Annotated[
        Literal["none", "gs_e"], Meta(description="`gs_e` for a presenter of the GS e family (Custom KPM, Reliance).")
    ] = "none"
    presenter_steps: Annotated[
        int, Meta(ge=1, le=255, description="How far a receipt is held out, in steps of the model's own length.")
    ] = 12
    take_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long a presented receipt may wait before it is taken back.")
    ] = 30.0

    def __post_init__(self) -> None:
        if medium(self.port) == "tcp":
            parse_address(self.port)
        if self.flow_control != "none" and medium(self.port) != "serial":
            raise ValueError(f"flow_control {self.flow_control} is for a serial port, and port is none")


class Fingerprint(Device, frozen=True, forbid_unknown_fields=True):
    """The fingerprint sensor (ZFM/R30x packets over a serial line)."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=9600, le=115200, multiple_of=9600, description="Line rate in bit/s.")] = 57600
    address: Annotated[int, Meta(ge=0, le=0xFFFFFFFF, description="Address of the module.")] = 0xFFFFFFFF
    password: Annotated[int, Meta(ge=0, le=0xFFFFFFFF, description="Password of the module.")] = 0
    security_level: Annotated[
        int, Meta(ge=1, le=5, description="The module's own matching strictness, 5 the strictest.")
    ] = 4
    finger_wait_seconds: Annotated[
        float, Meta(gt=0, le=120, description="How long a citizen may take to lay the finger down.")
    ] = 20.0


class CardReader(Device, frozen=True, forbid_unknown_fields=True):
    """The bank-card reader (CRT-310 family over a serial line)."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=1200, le=38400, description="Line rate in bit/s.")] = 9600
    card_wait_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long a citizen may take to insert the card.")
    ] = 60.0
    take_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long an ejected card may stay at the gate before it is retained.")
    ] = 30.0


class PinPad(Device, frozen=True, forbid_unknown_fields=True):
    """The encrypting PIN pad (SZZT dialect over a serial line)."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=1200, le=115200, description="Line rate in bit/s.")] = 9600
    algorithm: Annotated[Literal["sm4", "3des"], Meta(description="What the keys in the pad are for.")] = "sm4"
    master_key: Annotated[int, Meta(ge=0, le=0x1F, description="Slot of the master key.")] = 1
    pin_key: Annotated[
        int, Meta(ge=0x20, le=0x7F, description="Slot of the working key for PIN blocks; from 48 for 3des.")
    ] = 0x30
    mac_key: Annotated[
        int, Meta(ge=0x20, le=0x7F, description="Slot of the working key for message authentication, likewise.")
    ] = 0x31
    entry_seconds: Annotated[float, Meta(gt=0, le=120, description="How long a citizen may take to enter the PIN.")] = (
        30.0
    )

    def __post_init__(self) -> None:
        """Refuse slots that the pad does not have (protocols 6.1), and one key for two uses."""
        if self.pin_key == self.mac_key:
            raise ValueError("pin_key and mac_key are the same slot")
        if self.algorithm == "3des" and (self.master_key < 1 or min(self.pin_key, self.mac_key) < 0x30):
            raise ValueError("3des has master_key from 1, pin_key and mac_key from 48")


class Ups(Device, frozen=True, forbid_unknown_fields=True):
    """The UPS: Megatec (Q1, QS) over a serial line, or any through a NUT server."""

    port: Annotated[
        str,
        Meta(min_length=1, description="Serial port of a Megatec UPS, or `nut://USER@HOST:PORT/UPS` for a NUT server."),
    ]
    baud: Annotated[int, Meta(ge=1200, le=9600, description="Line rate in bit/s, for a serial port.")] = 2400
    password_file: Annotated[
        str | None, Meta(description="File with the NUT password; a relative name is sought in $CREDENTIALS_DIRECTORY.")
    ] = None
    poll_seconds: Annotated[float, Meta(ge=1, le=30, description="Between two status polls.")] = 5.0
    stale_seconds: Annotated[
        float, Meta(ge=5, le=120, description="A status older than this is stale: unknown, never low.")
    ] = 20.0
    battery_minutes: Annotated[
        float,
        Meta(gt=0, le=600, description="Runtime of a full battery at the terminal's load, where the UPS gives none."),
    ] = 30.0
    battery_full_volts: Annotated[
        float, Meta(gt=0, description="Battery voltage when full, for the same estimate.")
    ] = 27.4
    battery_empty_volts: Annotated[
        float, Meta(gt=0, description="Battery voltage when empty, for the same estimate.")
    ] = 21.0

    def __post_init__(self) -> None:
        if self.port.startswith("nut:"):
            nut_protocol.parse_address(self.port)
        if self.stale_seconds < 2 * self.poll_seconds:
            raise ValueError("stale_seconds must be at least twice poll_seconds: one bad poll is not an event")
        if self.battery_full_volts <= self.battery_empty_volts:
            raise ValueError("battery_full_volts must be more than battery_empty_volts")


class Environment(Device, frozen=True, forbid_unknown_fields=True):
    """The environment unit (Modbus RTU over a serial line): humidity, temperature, cabinet door."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=1200, le=115200, description="Line rate in bit/s.")] = 9600
    unit: Annotated[int, Meta(ge=1, le=247, description="Modbus address of the unit.")] = 1
    humidity_register: Annotated[int, Meta(ge=0, le=65535, description="Input register of humidity, in 0.1 %RH.")] = 0
    temperature_register: Annotated[
        int, Meta(ge=0, le=65535, description="Input register of temperature, signed, in 0.1 °C.")
    ] = 1
    door_input: Annotated[int, Meta(ge=0, le=65535, description="Discrete input of the door contact, 1 = open.")] = 0
    poll_seconds: Annotated[float, Meta(ge=1, le=30, description="Between two polls of the unit.")] = 10.0
    stale_seconds: Annotated[
        float, Meta(ge=5, le=300, description="A reading older than this is stale: everything is unknown.")
    ] = 30.0

    def __post_init__(self) -> None:
        if self.stale_seconds < 2 * self.poll_seconds:
            raise ValueError("stale_seconds must be at least twice poll_seconds: one bad poll is not an event")
        if abs(self.humidity_register - self.temperature_register) >= MOST_REGISTERS:
            raise ValueError("humidity_register and temperature_register must fit one request of 125 registers")
