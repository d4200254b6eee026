"""Pictures: a one-use token, asked for on the API, opens one stream on a socket of its own (rule 1).

The stream is a camera's preview, or one page of the document that is scanned.
"""

import asyncio
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass

import structlog

from runtime.api.listen import PreviewListener
from runtime.api.roles import Role, Roles
from runtime.audit import Audit
from runtime.session import Session, SessionState
from runtime.supervisor import error_code
from vision.verifier import CameraName, Cameras

log = structlog.get_logger(__name__)

TOKEN_SECONDS = 10.0
"""A token not used by then is void."""
GREETING_SECONDS = 2.0
"""A connection that has not said its token by then is closed."""
ACCEPT_PAUSE_SECONDS = 0.2
"""After an accept that failed (no descriptors left), so that the failure is not a busy loop."""
MOST_CONNECTIONS = 8
MOST_PREVIEWS = 16
"""Previews handed over in one session: a few for each thing a citizen does, and no more open ones than that."""
_LONGEST_TOKEN = 64


class PreviewError(Exception):
    """There is no such preview: `camera.missing`, `preview.too_many`."""

    retry = False

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    session: Session
    shows: CameraName | int
    until: float


class Previews:
    """The tokens that are out, at most one for each camera and page, and the door where they are shown."""

    def __init__(self, cameras: Cameras, names: Collection[CameraName], roles: Roles, audit: Audit) -> None:
        self._cameras = cameras
        self._names = frozenset(names)
        self._roles = roles
        self._audit = audit
        self._refused: set[int] = set()
        self._tokens: dict[CameraName | int, _Token] = {}
        self._served: Session | None = None
        self._count = 0
        self._greeting = asyncio.Semaphore(MOST_CONNECTIONS)

    def issue(self, session: Session, camera: CameraName) -> str:
        """Return a new token for a session and a camera; an older one of it is void. Raises PreviewError."""
        if camera not in self._names:
            advice = f"set `vision.{camera}_camera`"
            raise PreviewError("camera.missing", f"this terminal has no {camera} camera", advice=advice)
        if self._served is session and self._count >= MOST_PREVIEWS:
            advice = "keep a preview open instead of opening it again"
            raise PreviewError("preview.too_many", f"{MOST_PREVIEWS} previews were opened", advice=advice)
        return self._out(session, camera)

    def issue_page(self, session: Session, page: int) -> str:
        """Return a new token for a page of the session's document; an older one of it is void."""
        return self._out(session, page)

    def _out(self, session: Session, shows: CameraName | int) -> str:
        now = asyncio.get_running_loop().time()
        self._tokens = {what: token for what, token in self._tokens.items() if now <= token.until}
        self._tokens[shows] = _Token(secrets.token_urlsafe(24), session, shows, now + TOKEN_SECONDS)
        return self._tokens[shows].text

    async def serve(self, listener: PreviewListener) -> None:
        """Accept connections until cancelled; each says its token and a newline, then gets frames or is closed."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._greeting.acquire()
                try:
                    client, uid = await listener.accept()
                except OSError:
                    self._greeting.release()
                    await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                    continue
                group.create_task(self._greet(client, uid), name="preview-greeting")

    async def _greet(self, client: socket.socket, uid: int) -> None:
        """Hand the socket over to the vision process when its token is right; close it otherwise."""
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                shows = self._redeem(await _first_line(client)) if Role.UI in self._roles.of(uid) else None
                if shows is None:
                    client.close()
                    await self._refuse(uid)
                elif isinstance(shows, int):
                    await self._cameras.show_page(client, shows)
                else:
                    await self._cameras.preview(client, shows)
        except Exception as error:  # noqa: BLE001 - a supervised boundary: a preview that fails is closed, no more
            client.close()
            log.warning("preview_failed", code=error_code(error))
        except BaseException:
            client.close()
            raise
        finally:
            self._greeting.release()

    async def _refuse(self, uid: int) -> None:
        """Tell a user's first refusal; whoever goes on knocking fills neither log."""
        if uid not in self._refused:
            self._refused.add(uid)
            log.warning("preview_refused", uid=uid)
            await self._audit.note("preview_refused", actor=f"uid {uid}")

    def _redeem(self, said: bytes) -> CameraName | int | None:
        """Use up a token that is out; return what it shows if it is in time, for a session that lives.

        A wrong one voids them all.
        """
        token = next((one for one in self._tokens.values() if secrets.compare_digest(one.text.encode(), said)), None)
        if token is None:
            self._tokens.clear()
            return None
        del self._tokens[token.shows]
        lives = token.session.state in (SessionState.OPEN, SessionState.VERIFIED)
        if not lives or asyncio.get_running_loop().time() > token.until:
            return None
        if isinstance(token.shows, str):
            self._count = self._count + 1 if self._served is token.session else 1
            self._served = token.session
        return token.shows


async def _first_line(client: socket.socket) -> bytes:
    """Return what stands before the first newline, nothing when there is none in time or in length."""
    loop = asyncio.get_running_loop()
    said = b""
    while len(said) < _LONGEST_TOKEN:
        chunk = await loop.sock_recv(client, _LONGEST_TOKEN - len(said))
        said += chunk
        if b"\n" in said:
            return said.partition(b"\n")[0]
        if not chunk:
            break
    return b""
