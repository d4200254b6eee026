"""What the reference platform makes of trial records and calls: it counts each by its own id and digest (I6)."""

import os
from typing import cast

import msgspec

from runtime.messages import MessageError, Refusal, TrialAnswer, TrialCall, TrialHealth, TrialRecord, from_payload
from sim.platform.faults import Faults
from sim.platform.store import Store
from transport.payload import Payload
from transport.sm import sm3
from transport.wire import RecordMessage


def spoiled(faults: Faults, record: RecordMessage) -> RecordMessage:
    """Return the record as it is stored: itself, or one whose last byte was changed by a sabotage."""
    if not faults.flips_byte(record.schema):
        return record
    return msgspec.structs.replace(record, body=record.body[:-1] + bytes([record.body[-1] ^ 1]))


def count_record(store: Store, record: RecordMessage, at: float) -> None:
    """Count a record that was stored, if it is a trial; one that cannot be read is not counted."""
    try:
        message = from_payload(Payload(record.schema, record.version, False, record.body), TrialRecord, TrialHealth)
    except MessageError:
        return
    _count(store, record.schema, cast("TrialRecord | TrialHealth", message), at)


def answer(store: Store, call: TrialCall, at: float) -> TrialAnswer | Refusal:
    """Count a call and return as many random bytes as it asks for; refuse one whose digest is wrong."""
    if not _count(store, "trial.call", call, at):
        return Refusal("trial.altered", retry=False)
    filler = os.urandom(call.answer_bytes)
    return TrialAnswer(call.id, sm3(filler), filler)


def _count(store: Store, kind: str, trial: TrialRecord | TrialHealth | TrialCall, at: float) -> bool:
    is_right = sm3(trial.filler) == trial.digest
    store.add_trial(trial.id, kind, trial.digest, is_right=is_right, at=at)
    return is_right
