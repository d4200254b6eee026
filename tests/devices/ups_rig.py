"""The UPS on the rig, behind each of its two protocols."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from devices.config import Ups as UpsSettings
from devices.ups.megatec import MegatecUps
from devices.ups.nut import NutUps
from sim.devices.nut import PASSWORD, VirtualNutServer
from sim.devices.ups import VirtualMegatecUps
from tests.devices.sensor_rig import Rig, running

MegatecRig = Rig[VirtualMegatecUps, MegatecUps]
NutRig = Rig[VirtualNutServer, NutUps]


def megatec_rig(
    settings: dict[str, Any] | None = None, ups: dict[str, Any] | None = None, **wire: Any
) -> AbstractAsyncContextManager[MegatecRig]:
    device = VirtualMegatecUps(asyncio.get_running_loop().time, **(ups or {}))
    made = UpsSettings(port="ups", **(settings or {}))
    return running(Rig(device, "ups", lambda opened, told: MegatecUps(made, opened, told), **wire))


def nut_rig(
    address: str = "nut://govterm@nut:3493/kiosk", *, password: str = PASSWORD, **wire: Any
) -> AbstractAsyncContextManager[NutRig]:
    made = UpsSettings(port=address)
    return running(
        Rig(
            VirtualNutServer(),
            "tcp://nut:3493",
            lambda opened, told: NutUps(made, opened, told, password=password),
            **wire,
        )
    )
