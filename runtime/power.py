"""The board's power switch through logind, over the system's D-Bus."""

import asyncio

import structlog

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 10.0


class PowerError(Exception):
    """The host did not take the order to power off."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = True
        self.advice = "check that systemd-logind runs and that polkit lets the user govterm power off"


class LogindPower:
    """`HostPower` through `org.freedesktop.login1.Manager.PowerOff`; `address` is the system bus unless given."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    async def power_off(self) -> None:
        """Ask logind to power off; raise PowerError (`power.unavailable`, `power.refused`) when it does not take it."""
        from dbus_fast import BusType, Message, MessageType
        from dbus_fast.aio import MessageBus
        from dbus_fast.errors import DBusError

        order = Message(
            destination="org.freedesktop.login1",
            path="/org/freedesktop/login1",
            interface="org.freedesktop.login1.Manager",
            member="PowerOff",
            signature="b",
            body=[False],
        )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                bus = MessageBus(self._address, bus_type=BusType.SYSTEM)
                try:
                    await bus.connect()
                    answer = await bus.call(order)
                finally:
                    bus.disconnect()
        except (OSError, EOFError, TimeoutError, DBusError) as error:
            raise PowerError("power.unavailable", f"logind is not reached: {type(error).__name__}") from None
        if answer is None or answer.message_type is MessageType.ERROR:
            raise PowerError("power.refused", f"logind refused: {answer.error_name if answer else 'no answer'}")
        log.info("power_off_ordered")
