"""The services of the reference platform: what it answers to a terminal's calls."""

import msgspec
import structlog

from runtime.messages import MessageError, Refusal, TrialCall, from_payload, to_payload
from sim.platform import trial
from sim.platform.services.applications import Applications
from sim.platform.services.calls import Calls
from sim.platform.services.certificates import Certificates
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.hotline import Hotline
from sim.platform.services.identity import Identity
from sim.platform.services.matters import Matters
from sim.platform.services.payment import Payments
from sim.platform.services.progress import Enquiries
from sim.platform.services.sharing import Sharing
from sim.wire import Verbs
from transport.payload import Payload

log = structlog.get_logger(__name__)


class Services:
    """Hands each call to the service that answers its kind of message."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        identity = Identity(desk)
        matters = Matters(desk)
        payments = Payments(desk, identity, matters)
        applications = Applications(desk, identity, matters, payments.spend)
        hotline = Hotline(desk, identity)
        enquiries = Enquiries(desk, identity, (applications, hotline, payments))
        sharing = Sharing(desk, identity)
        self.all = services = (
            identity,
            Certificates(desk, identity),
            matters,
            applications,
            payments,
            hotline,
            enquiries,
            sharing,
        )
        self.verbs: Verbs = {
            **identity.verbs,
            **matters.verbs,
            **applications.verbs,
            **payments.verbs,
            **hotline.verbs,
            **sharing.verbs,
        }
        self._handlers: Handlers = {TrialCall: self._try} | Calls(desk).handlers
        for service in services:
            self._handlers |= service.handlers

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
