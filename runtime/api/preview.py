"""Camera previews: a one-use token, asked for on the API, opens one stream on a socket of its own (rule 1)."""

import asyncio
import secrets
import socket

import structlog

from runtime.api.listen import PreviewListener
from runtime.api.roles import Role, Roles
from runtime.audit import Audit
from runtime.session import Session, SessionState
from runtime.supervisor import error_code
from vision.verifier import Verifier

log = structlog.get_logger(__name__)

TOKEN_SECONDS = 10.0
"""A token not used by then is void."""
GREETING_SECONDS = 2.0
"""A connection that has not said its token by then is closed."""
ACCEPT_PAUSE_SECONDS = 0.2
"""After an accept that failed (no descriptors left), so that the failure is not a busy loop."""
MOST_CONNECTIONS = 8
_LONGEST_TOKEN = 64


class Previews:
    """The tokens that are out, at most one, and the door where they are shown."""

    def __init__(self, verifier: Verifier, roles: Roles, audit: Audit) -> None:
        self._verifier = verifier
        self._roles = roles
        self._audit = audit
        self._refused: set[int] = set()
        self._token: tuple[str, Session, float] | None = None
        self._greeting = asyncio.Semaphore(MOST_CONNECTIONS)

    def issue(self, session: Session) -> str:
        """Return a new token for a session; an older one is void."""
        token = secrets.token_urlsafe(24)
        self._token = (token, session, asyncio.get_running_loop().time() + TOKEN_SECONDS)
        return token

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
                if self._roles.of(uid) is not Role.UI or not self._redeem(await _first_line(client)):
                    client.close()
                    await self._refuse(uid)
                else:
                    await self._verifier.preview(client)
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

    def _redeem(self, said: bytes) -> bool:
        """Use up the token that is out; whether it was this one, in time, for a session that still lives."""
        issued, self._token = self._token, None
        if issued is None:
            return False
        token, session, until = issued
        right = secrets.compare_digest(token.encode(), said)
        lives = session.state in (SessionState.OPEN, SessionState.VERIFIED)
        return right and lives and asyncio.get_running_loop().time() <= until


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
