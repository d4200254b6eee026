"""What the terminal says of itself: the state of each component, whole at first, then as numbered changes (L43)."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

QUEUE_LENGTH = 64
"""Changes kept for a subscriber that is slow to take them."""
HISTORY_LENGTH = 512
"""Changes kept for a subscriber that lost its connection."""


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


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in the changes: the daemon's life they belong to, and the last one that was seen."""

    epoch: Annotated[str, Meta(max_length=64, description="What events.subscribe returned.")]
    sequence: Annotated[int, Meta(ge=0, le=2**53, description="The last change that was taken.")]


class TooSlow(Exception):
    """The subscriber left more than QUEUE_LENGTH changes untaken; it must subscribe anew."""


class Subscription:
    """The state at one moment (`sequence`, `state`) and every change after it.

    One that goes on from a place has no `state`, and gives what was missed since first.
    """

    def __init__(
        self,
        sequence: int,
        state: dict[str, Component] | None,
        missed: Iterable[Change],
        forget: Callable[["Subscription"], None],
    ) -> None:
        self.sequence = sequence
        self.state = state
        self._missed = deque(missed)
        self._forget = forget
        self._changes: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE_LENGTH + 1)

    async def next(self) -> Change:
        """Return the next change; raise TooSlow once changes were lost."""
        if self._missed:
            return self._missed.popleft()
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
    """The current state of every component; `epoch` names this life of the daemon."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self._sequence = 0
        self._history: deque[Change] = deque(maxlen=HISTORY_LENGTH)
        self._components: dict[str, Component] = {}
        self._subscriptions: list[Subscription] = []

    def set(self, component: str, state: Component) -> None:
        """Note a component's state; a repeat is nothing."""
        if self._components.get(component) == state:
            return
        self._sequence += 1
        self._components[component] = state
        change = Change(self._sequence, component, state)
        self._history.append(change)
        for subscription in list(self._subscriptions):
            subscription.offer(change)

    def get(self, component: str) -> Component | None:
        """Return a component's state, None before it was ever set."""
        return self._components.get(component)

    def full(self) -> dict[str, Component]:
        """Return the state of every component."""
        return dict(self._components)

    def subscribe(self, since: Place | None = None) -> Subscription:
        """Return a queue of what changes from now on, after what was missed since a place or the whole state now.

        It is the whole state when the place is of another life of the daemon, or too far back.
        """
        missed = self._missed(since)
        if since is None or missed is None:
            subscription = Subscription(self._sequence, self.full(), (), self._drop)
        else:
            subscription = Subscription(since.sequence, None, missed, self._drop)
        self._subscriptions.append(subscription)
        return subscription

    def _missed(self, since: Place | None) -> list[Change] | None:
        """Return the changes after a place, None when they are not known any more."""
        if since is None or since.epoch != self.epoch or since.sequence > self._sequence:
            return None
        missed = [change for change in self._history if change.sequence > since.sequence]
        return missed if len(missed) == self._sequence - since.sequence else None

    def _drop(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
