"""Who of the staff may do what now: grants that the platform signs and that end by themselves (H6, H10, H11).

`[api]` lists who may be staff at all. With `staff = "granted"` a listed account has a role only while a grant of the
platform says so, and a grant for remote maintenance counts only while a window that names the account is open.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec
import structlog

from runtime.api.roles import Role, Roles
from runtime.audit import Audit
from runtime.messages.audit import (
    LONGEST_GRANT_SECONDS,
    LONGEST_WINDOW_SECONDS,
    RemoteWindow,
    StaffGrant,
    StaffRevocation,
    word_content,
)
from runtime.state import Component, StateBoard
from transport.errors import TransportError
from transport.sm2 import PublicKey

log = structlog.get_logger(__name__)

COMPONENT = "remote_maintenance"
"""What the board shows of windows: `none`, `announced` or `open`."""
LOOK_SECONDS = 30.0
"""Between two looks at the clock, which the platform may set right."""
SHORTEST_LOOK_SECONDS = 0.05
ABNORMAL = "staff.abnormal"
"""The alarm of an account that was refused MOST_REFUSALS times within REFUSALS_SECONDS (H11)."""
MOST_REFUSALS = 5
REFUSALS_SECONDS = 600.0

Word = StaffGrant | RemoteWindow


class StaffError(Exception):
    """A word of the platform about its staff that does not count: `staff.bad_signature`, `staff.too_long`."""

    retry = False
    advice = "have the platform sign it anew"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Staff:
    """The staff's roles at each moment. `run` is one supervised life of its clock."""

    def __init__(
        self,
        listed: Roles,
        *,
        is_granted: bool,
        terminal: str,
        platform_key: PublicKey,
        now: Callable[[], float],
        platform_time: Callable[[], float | None],
        audit: Audit,
        board: StateBoard,
        sound: Callable[[str, str], None],
    ) -> None:
        """Without `is_granted` whoever is listed has the role.

        Grants are judged by `now`, the best known time; windows by `platform_time` alone, and none is open while that
        is not known (UTC seconds). `sound` raises an alarm.
        """
        self._listed = listed
        self._is_granted = is_granted
        self._terminal = terminal
        self._platform_key = platform_key
        self._now = now
        self._platform_time = platform_time
        self._audit = audit
        self._board = board
        self._sound = sound
        self._grants: list[StaffGrant] = []
        self._windows: list[RemoteWindow] = []
        self._open: dict[str, RemoteWindow] = {}
        self._held: dict[int, frozenset[Role]] = {}
        self._refusals: dict[int, deque[float]] = {}
        self._on_lost: Callable[[int], None] = lambda _: None
        self._changed = asyncio.Event()

    @property
    def is_granted(self) -> bool:
        """Whether the platform's grants count, and sensitive acts need two persons."""
        return self._is_granted

    def guard(self, on_lost: Callable[[int], None]) -> None:
        """Have `on_lost` end what a user does who loses a role."""
        self._on_lost = on_lost

    def verify(self, word: Word) -> None:
        """Raise StaffError unless the platform signed this for this terminal, and not for too long."""
        longest = LONGEST_GRANT_SECONDS if isinstance(word, StaffGrant) else LONGEST_WINDOW_SECONDS
        if word.ends_unix - word.begins_unix > longest:
            raise StaffError("staff.too_long", f"{word.id} is for more than {longest} s")
        try:
            self._platform_key.verify(word.signature, word_content(self._terminal, word))
        except TransportError:
            raise StaffError("staff.bad_signature", "the platform did not sign this for this terminal") from None

    def announced(self, words: Iterable[Word]) -> None:
        """Take what is kept of the platform's words, at the start and at each change; a forged one is an alarm."""
        right = []
        for word in words:
            try:
                self.verify(word)
                right.append(word)
            except StaffError as error:
                self._sound(error.code, "staff")
        self._grants = [word for word in right if isinstance(word, StaffGrant)]
        self._windows = [word for word in right if isinstance(word, RemoteWindow)]
        self._changed.set()

    async def taken(self, word: Word | StaffRevocation) -> None:
        """Note in the audit log what the platform said."""
        about: dict[str, str | int] = {"id": word.id}
        if isinstance(word, StaffGrant):
            about |= {"account": word.account, "role": word.role, "remote": int(word.remote)}
        if isinstance(word, RemoteWindow):
            about |= {"accounts": " ".join(word.accounts), "bastion": word.bastion}
        if not isinstance(word, StaffRevocation):
            about |= {"begins": word.begins_unix, "ends": word.ends_unix}
        await self._audit.note(_NAMES[type(word)], actor="platform", details=about)

    def roles(self, uid: int) -> frozenset[Role]:
        """Return the roles that a user has now."""
        listed = self._listed.of(uid)
        if not self._is_granted or Role.UI in listed:
            return listed
        return listed & {Role(grant.role) for grant in self._in_force(uid)}

    def why_not(self, uid: int, role: Role | None) -> str:
        """Return the code of why a user does not have a role now (None: any); `caller.not_allowed` if he never may."""
        account, now = self._listed.account(uid), self._now()
        wanted = self._listed.of(uid) if role is None else self._listed.of(uid) & {role}
        if account is None or not wanted:
            return "caller.not_allowed"
        grants = [grant for grant in self._grants if grant.account == account and grant.role in wanted]
        return "caller.no_window" if any(_holds(grant, now) for grant in grants) else "caller.not_granted"

    def actor(self, uid: int) -> str:
        """Return a user as the audit log names him: the account, and the role and grant by which he acts (H6)."""
        account = self._listed.account(uid)
        if not self._is_granted or account is None:
            return f"uid {uid}"
        return " ".join([f"uid {uid}", account, *(f"{grant.role}:{grant.id}" for grant in self._in_force(uid))])

    def refused(self, uid: int) -> None:
        """Take note that a user was refused something: a listed one who goes on is an alarm (H11)."""
        account = self._listed.account(uid)
        if account is None:
            return
        now = asyncio.get_running_loop().time()
        times = self._refusals.setdefault(uid, deque(maxlen=MOST_REFUSALS))
        times.append(now)
        if len(times) == MOST_REFUSALS and times[0] > now - REFUSALS_SECONDS:
            times.clear()
            self._sound(ABNORMAL, account)

    async def run(self, ready: Callable[[], None]) -> None:
        """Open and close windows, and end what users do who lose a role, each at its time, until cancelled."""
        ready()
        while True:
            self._changed.clear()
            self._look_at_roles()
            await self._look_at_windows()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._changed.wait()

    def _in_force(self, uid: int) -> list[StaffGrant]:
        account, now = self._listed.account(uid), self._now()
        admitted = {name for window in self._admitting() for name in window.accounts}
        return [
            grant
            for grant in self._grants
            if grant.account == account and _holds(grant, now) and (not grant.remote or account in admitted)
        ]

    def _admitting(self) -> list[RemoteWindow]:
        now = self._platform_time()
        return [window for window in self._windows if now is not None and _holds(window, now)]

    def _look_at_roles(self) -> None:
        held = {uid: self.roles(uid) for uid in self._listed.staff()}
        for uid, before in self._held.items():
            if before - held[uid]:
                log.info("staff_role_ended", uid=uid)
                self._on_lost(uid)
        self._held = held

    async def _look_at_windows(self) -> None:
        now = {window.id: window for window in self._admitting()}
        opened = [window for name, window in now.items() if name not in self._open]
        closed = [window for name, window in self._open.items() if name not in now]
        self._open = now
        self._show()
        for event, windows in (("remote_window_closed", closed), ("remote_window_opened", opened)):
            for window in windows:
                about: dict[str, str | int] = {"window": window.id, "bastion": window.bastion}
                log.info(event, **about)
                await self._audit.note(event, actor="daemon", details=about | {"accounts": " ".join(window.accounts)})

    def _show(self) -> None:
        """Put the windows on the board: the one that is open, or else the next."""
        now = self._now()
        coming = [*self._open.values(), *(window for window in self._windows if window.ends_unix > now)]
        if coming:
            first = min(coming, key=lambda window: (window.id not in self._open, window.begins_unix))
            about: dict[str, str | bool] = {
                "begins_unix": str(first.begins_unix),
                "ends_unix": str(first.ends_unix),
                "bastion": first.bastion,
            }
            self._board.set(COMPONENT, Component("open" if self._open else "announced", details=about))
        elif self._board.get(COMPONENT) is not None:
            self._board.set(COMPONENT, Component("none"))

    def _until_next(self) -> float | None:
        """Return how many seconds to wait: up to the next begin or end, at most LOOK_SECONDS; None without any."""
        now = self._now()
        words: list[Word] = [*self._grants, *self._windows]
        if not words:
            return None
        ahead = [time - now for word in words for time in (word.begins_unix, word.ends_unix) if time > now]
        return max(SHORTEST_LOOK_SECONDS, min([LOOK_SECONDS, *ahead]))


_NAMES: dict[type[msgspec.Struct], str] = {
    StaffGrant: "staff_granted",
    RemoteWindow: "remote_window_announced",
    StaffRevocation: "staff_revoked",
}


def _holds(word: Word, now: float) -> bool:
    return word.begins_unix <= now < word.ends_unix
