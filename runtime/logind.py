"""The board's power switch through logind, over the system's D-Bus."""

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from dbus_fast import Message

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 2.0
_LOOK_SECONDS = 0.8
"""For the look whether an order was taken; both together fit into the budget of the step `off`."""
_ADVICE = "check that systemd-logind runs and that polkit lets the user govterm power off"
_LOGIND = "org.freedesktop.login1"


class PowerError(Exception):
    """The host did not take the order to power off, or nobody knows whether it did (`power.unknown`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = True
        self.advice = _ADVICE


class LogindPower:
    """`HostPower` through `org.freedesktop.login1.Manager.PowerOff`; `address` is the system bus unless given."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    async def power_off(self) -> None:
        """Ask logind to power off; return when it has taken the order.

        Where its answer is lost, logind is asked whether the host is going down: the very shutdown that was ordered may
        have stopped the bus. So it is where it refuses, as it does while a shutdown is under way. Raises PowerError:
        `power.unavailable` when the order certainly was not taken, `power.refused`, and `power.unknown` when the answer
        is lost and nobody says.
        """
        from dbus_fast import Message

        order = Message(
            destination=_LOGIND,
            path="/org/freedesktop/login1",
            interface=f"{_LOGIND}.Manager",
            member="PowerOff",
            signature="b",
            body=[False],
        )
        try:
            is_answered = await self._call(order, _ANSWER_SECONDS) is not None
        except PowerError as error:
            if error.code != "power.refused" or not await self._goes_down():
                raise
        else:
            if not is_answered:
                await self._look()
        log.info("power_off_ordered")

    async def _goes_down(self) -> bool:
        """Return whether logind says that the host is going down."""
        try:
            await self._look()
        except PowerError:
            return False
        return True

    async def _look(self) -> None:
        """Return when logind says that the host is going down; raise PowerError when it says no, or nothing."""
        from dbus_fast import Message

        question = Message(
            destination=_LOGIND,
            path="/org/freedesktop/login1",
            interface="org.freedesktop.DBus.Properties",
            member="Get",
            signature="ss",
            body=[f"{_LOGIND}.Manager", "PreparingForShutdown"],
        )
        try:
            answer = await self._call(question, _LOOK_SECONDS)
        except PowerError:
            answer = None
        if not answer:
            raise PowerError("power.unknown", "logind's answer was lost, and nobody says whether it took the order")
        if answer[0].value is not True:
            raise PowerError("power.unavailable", "the order was lost: the host is not going down")

    async def _call(self, message: "Message", seconds: float) -> list[Any] | None:
        """Return the body of the answer with something in it, None when the message left and no answer came."""
        from dbus_fast import BusType, MessageType
        from dbus_fast.aio import MessageBus
        from dbus_fast.errors import DBusError

        has_left = False
        try:
            async with asyncio.timeout(seconds):
                bus = MessageBus(self._address, bus_type=BusType.SYSTEM)
                try:
                    await bus.connect()
                    has_left = True
                    answer = await bus.call(message)
                finally:
                    bus.disconnect()
        except (OSError, EOFError, TimeoutError, DBusError) as error:
            if has_left:
                return None
            raise PowerError("power.unavailable", f"logind is not reached: {type(error).__name__}") from None
        if answer.message_type is MessageType.ERROR:
            if answer.error_name in _LOST:
                return None
            raise PowerError("power.refused", f"logind refused: {answer.error_name}")
        return answer.body or [True]


_LOST = frozenset({"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected"})
"""What the bus says in the place of a service that went away before it answered."""
