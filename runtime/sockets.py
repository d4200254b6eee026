"""The daemon's listening sockets: handed over by systemd (sd_listen_fds(3)), or bound here."""

import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_FIRST_DESCRIPTOR = 3
_BACKLOG = 16
_PROBE_SECONDS = 1.0
_MODE = 0o660


class SocketError(Exception):
    """A listening socket cannot be had: `api.socket_busy` when another daemon answers on it, `api.socket_failed`."""

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = code == "api.socket_busy"
        self.advice = advice


def inherited() -> dict[str, socket.socket]:
    """Take the sockets systemd handed over, by path; none is left to child processes."""
    process = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal():
        return {}
    sockets = {}
    for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
        sockets[listener.getsockname()] = listener
    return sockets


@contextmanager
def bound(paths: Iterable[str]) -> Iterator[dict[str, socket.socket]]:
    """Listen on each path for the length of a `with`, then close the sockets and remove their files.

    The files get mode 0660. One that is left over is replaced only when nobody answers on it. Raises SocketError.
    """
    with ExitStack() as stack:
        sockets = {}
        for path in paths:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            try:
                _clear(path)
                listener.bind(path)
                stack.callback(_remove, path)
                Path(path).chmod(_MODE)
                listener.listen(_BACKLOG)
            except OSError as error:
                raise SocketError(
                    "api.socket_failed", f"{path}: {error.strerror}", advice="correct the paths in [api]"
                ) from None
            sockets[path] = listener
        yield sockets


def _clear(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError("api.socket_failed", f"{path} is not a socket", advice="move that file away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _remove(path)
            return
        except TimeoutError:
            pass
    raise SocketError("api.socket_busy", f"another program answers on {path}", advice="stop the other daemon first")


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        Path(path).unlink()
