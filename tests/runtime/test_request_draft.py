"""What a hotline request is known by is overwritten, not only let go (rule 1)."""

import pytest

from runtime.services.request_draft import RequestDraft

DIGEST = bytes(range(1, 33))


@pytest.mark.parametrize("ending", ["wipe", "send"])
def test_what_was_sent_is_overwritten(ending):
    """Rule 1: at the end, and when something else is sent."""
    draft = RequestDraft("H-0000")
    draft.send(DIGEST)
    assert draft.has_sent(DIGEST)
    assert draft.sent is not None
    buffer = draft.sent._buffer
    assert buffer == DIGEST
    if ending == "wipe":
        draft.wipe()
    else:
        draft.send(DIGEST[::-1])
    assert buffer == bytes(len(DIGEST))
    assert not draft.has_sent(DIGEST)
