"""The services of the reference platform: what it answers to a terminal's calls."""

import msgspec
import structlog

from runtime.messages import MessageError, Refusal, TrialCall, from_payload, to_payload
from sim.platform import trial
from sim.platform.services.certificates import Certificates
from sim.platform.services.desk import Desk, Handlers
from transport.payload import Payload

log = structlog.get_logger(__name__)


class Services:
    """Hands each call to the service that answers its kind of message."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._handlers: Handlers = {TrialCall: self._try, **Certificates(desk).handlers}

    def serve(self, terminal: str, request: Payload) -> Payload:
        """Return the answer to a call, a refusal where it is no call that the platform knows."""
        try:
            asked: msgspec.Struct = from_payload(request, *self._handlers)
        except MessageError as error:
            log.warning("platform_complains", code=error.code, terminal=terminal)
            self._desk.store.count(f"complaint {error.code}")
            return to_payload(Refusal(error.code, retry=False))
        return to_payload(self._handlers[type(asked)](terminal, asked))

    def _try(self, _terminal: str, call: TrialCall) -> msgspec.Struct:
        return trial.answer(self._desk.store, call, self._desk.wall_clock())
