"""What the terminal says of itself: the state of each component, whole at first, then as numbered changes (L43)."""

import asyncio
from collections.abc import Callable

import msgspec

QUEUE_LENGTH = 64
"""Changes kept for a subscriber that is slow to take them."""


class Component(msgspec.Struct, frozen=True, omit_defaults=True):
    """One component's state, the code of what is wrong, its identity and its own details; nothing personal.

    States of devices, vision and platform are those of XFS4IoT; of the session: `none`, `open`, `verified`, `ending`.
    """

    state: str
    code: str | None = None
    identity: str | None = None
    details: dict[str, str | bool] = {}


class Change(msgspec.Struct, frozen=True):
    """The new state of a component; sequences have no gaps."""

    sequence: int
    component: str
    state: Component


class TooSlow(Exception):
    """The subscriber left more than QUEUE_LENGTH changes untaken; it must subscribe anew."""


class Subscription:
    """The state at one moment (`sequence`, `state`) and every change after it."""

    def __init__(self, sequence: int, state: dict[str, Component], forget: Callable[["Subscription"], None]) -> None:
        self.sequence = sequence
        self.state = state
        self._forget = forget
        self._changes: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE_LENGTH + 1)

    async def next(self) -> Change:
        """Return the next change; raise TooSlow once changes were lost."""
        change = await self._changes.get()
        if change is None:
            raise TooSlow
        return change

    def close(self) -> None:
        """Take no more changes; closing twice is nothing."""
        self._forget(self)

    def offer(self, change: Change) -> None:
        """Queue a change without ever waiting; the first one that does not fit ends the subscription."""
        if self._changes.qsize() < QUEUE_LENGTH:
            self._changes.put_nowait(change)
        else:
            self._changes.put_nowait(None)
            self.close()


class StateBoard:
    """The current state of every component."""

    def __init__(self) -> None:
        self._sequence = 0
        self._components: dict[str, Component] = {}
        self._subscriptions: list[Subscription] = []

    def set(self, component: str, state: Component) -> None:
        """Note a component's state; a repeat is nothing."""
        if self._components.get(component) == state:
            return
        self._sequence += 1
        self._components[component] = state
        for subscription in list(self._subscriptions):
            subscription.offer(Change(self._sequence, component, state))

    def get(self, component: str) -> Component | None:
        """Return a component's state, None before it was ever set."""
        return self._components.get(component)

    def full(self) -> dict[str, Component]:
        """Return the state of every component."""
        return dict(self._components)

    def subscribe(self) -> Subscription:
        """Return the whole state now and a queue of what changes afterwards."""
        subscription = Subscription(self._sequence, self.full(), self._drop)
        self._subscriptions.append(subscription)
        return subscription

    def _drop(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
