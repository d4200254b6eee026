"""Tries the line to the platform with bytes that mean nothing, so that somebody else can count them (T14, I6)."""

import asyncio
import os
import secrets
from dataclasses import dataclass
from typing import Protocol, cast

from runtime.journal import Journal
from runtime.messages import Refusal, Stream, TrialAnswer, TrialCall, TrialHealth, TrialRecord, from_payload, to_payload
from transport.payload import Payload
from transport.sm import sm3


class Platform(Protocol):
    """The line to the platform as the trials see it."""

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float) -> Payload:
        """Ask the platform; raises TransportError."""


class TrialError(Exception):
    """A trial call was answered, but not with what was asked for.

    Codes: `trial.altered` for another answer or one with a wrong digest, or the platform's own where it refuses.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Trip:
    """A call that went to the platform and came back whole: the SM3 of what was sent, and how long it took."""

    digest: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Trials:
    """Sends records and calls that mean nothing over the ways that the real ones take."""

    journal: Journal
    platform: Platform

    async def record(self, trial: str, digest: bytes, filler: bytes, stream: Stream) -> int:
        """Journal a record on `stream` (supervision or telemetry) and return its sequence, once it is durable.

        `digest` is what the platform compares the SM3 of `filler` with; it is not looked at here. Raises JournalError.
        """
        kind = TrialHealth if stream == "telemetry" else TrialRecord
        return await self.journal.append(kind(trial, digest, filler))

    async def call(self, trial: str, *, filler_bytes: int, answer_bytes: int, deadline_seconds: float) -> Trip:
        """Send random bytes to the platform and have it answer with random bytes.

        Raises TransportError: `line.down` when the call certainly never left, `platform.no_answer` when it is unknown
        whether it arrived; TrialError when the answer is not what was asked for; MessageError when it is none.
        """
        filler = os.urandom(filler_bytes)
        digest = sm3(filler)
        loop = asyncio.get_running_loop()
        began = loop.time()
        request = to_payload(TrialCall(trial, digest, filler, answer_bytes))
        reply = await self.platform.call(request, key=secrets.token_bytes(16), deadline_seconds=deadline_seconds)
        seconds = loop.time() - began
        answer = cast("TrialAnswer | Refusal", from_payload(reply, TrialAnswer, Refusal))
        if isinstance(answer, Refusal):
            raise TrialError(answer.code, "the platform refuses", advice="ask the platform's operator")
        right = (trial, answer_bytes, sm3(answer.filler))
        if (answer.id, len(answer.filler), answer.digest) != right:
            raise TrialError("trial.altered", "another answer than asked for", advice="report a software fault")
        return Trip(digest, seconds)
