"""Tells a terminal whose journal was damaged on which of its calls the platform acted."""

from dataclasses import dataclass

from runtime.messages.storage import ActedCall, CallList, CallsRequest
from sim.platform.services.desk import Desk, Handlers

MOST = 5_000
"""Calls in an answer."""
_ACTING = (
    "certificate.request",
    "certificate.reprint",
    "application.filing",
    "hotline.request",
    "payment.opening",
    "payment.reversal",
)
"""What a terminal does under an intent. Uses of shared data are compared by the month."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The list of calls."""

    desk: Desk

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {CallsRequest: self._tell}

    def _tell(self, terminal: str, request: CallsRequest) -> CallList:
        marks = ", ".join("?" * len(_ACTING))
        statement = f"""
            SELECT key, schema, received_at FROM calls
            WHERE terminal = ? AND received_at >= ? AND answer_schema <> 'refusal' AND schema IN ({marks})
            ORDER BY received_at DESC LIMIT ?"""  # noqa: S608 - question marks
        rows = self.desk.database.execute(statement, (terminal, request.since, *_ACTING, MOST))
        return CallList(tuple(ActedCall(*row) for row in rows))
