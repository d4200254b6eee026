"""What the terminal does about each kind of tampering: the section `[security]` (T23, H8). docs/tamper.md says why."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Kind = Literal[
    "door", "pinpad", "device", "usb", "network", "journal", "journal_damage", "catalogue", "model", "egress"
]
Answer = Literal["lock", "alarm", "ignore"]
"""`lock`: an alarm, and no session until an operator clears it; `alarm`: the alarm alone; `ignore`: only in a rig."""


class Security(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done about tampering: `lock` (an alarm, and no session until an operator clears it) or `alarm`."""

    door: Annotated[Answer, Meta(description="The cabinet is opened outside an announced maintenance.")] = "lock"
    pinpad: Annotated[Answer, Meta(description="The PIN pad was tampered with, or sent a key in clear.")] = "lock"
    device: Annotated[Answer, Meta(description="Another device is in the place of the expected one.")] = "lock"
    usb: Annotated[Answer, Meta(description="A USB device that is no peripheral and not in `usb_allowed`.")] = "lock"
    network: Annotated[Answer, Meta(description="A second default route, or an uplink not in `uplinks`.")] = "lock"
    journal: Annotated[Answer, Meta(description="The journal went back to an older image.")] = "lock"
    journal_damage: Annotated[Answer, Meta(description="The journal was damaged, and rebuilt.")] = "alarm"
    catalogue: Annotated[Answer, Meta(description="The signature of the stored catalogue does not verify.")] = "lock"
    model: Annotated[Answer, Meta(description="A model is not the one that the manifest names by its hash.")] = "lock"
    egress: Annotated[Answer, Meta(description="The program tried to reach a foreign address.")] = "alarm"
    usb_allowed: Annotated[
        tuple[Annotated[str, Meta(pattern="^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$")], ...],
        Meta(description="USB devices that belong to the board, as `VID:PID`: touch screen, modem, ..."),
    ] = ()
    uplinks: Annotated[
        tuple[Annotated[str, Meta(pattern="^[^/ ]{1,15}$")], ...],
        Meta(description="Interfaces that default routes may leave by; without any, there may be one default route."),
    ] = ()

    def answer(self, kind: Kind) -> Answer:
        """Return what is done about a kind of tampering."""
        said: Answer = getattr(self, kind)
        return said
