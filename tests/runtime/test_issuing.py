"""A certificate is issued once, however the answer is lost and however often it is asked for (T7, T12, rule 2)."""

import asyncio

import pytest

from runtime.messages import Refusal
from runtime.messages.certificate import CertificateCopy
from runtime.services.issuing import ISSUE
from tests.runtime.test_certificate import DOWN, LATE, Desk, issued, stage


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (LATE, "platform.no_answer"),
    ],
)
def test_without_an_answer_nobody_knows_and_the_next_try_finds_out_first(answer, code):
    """Rule 2, T7: no answer is unknown; a certificate is never issued twice because a citizen tries again."""

    async def story(desk: Desk) -> None:
        unsure = await desk.request()
        assert (unsure.outcome, unsure.code, unsure.retry) == ("refused", "certificate.unsure", True)
        assert desk.intents() == [("issue", "open", None)]
        assert desk.service.office.unsettled.is_set()
        assert (await desk.events())[-1] == ("issue", "unknown", code)
        ((_, key),) = desk.platform.asked

        desk.platform.settlement = DOWN
        still = await desk.request()
        assert (still.code, still.receipt) == ("certificate.unsure", unsure.receipt)
        assert len(desk.platform.asked) == 1

        desk.platform.settlement, desk.platform.answer = "acted", CertificateCopy(issued(), 1)
        result = await desk.request()
        assert (result.outcome, result.receipt, result.copy, result.paper) == ("done", unsure.receipt, 1, "printed")
        assert desk.platform.settled == [key, key]
        assert [payload.schema for payload, _ in desk.platform.asked] == ["certificate.request", "certificate.reprint"]

        desk.platform.answer = issued()
        another = await desk.request()
        assert (another.copy, another.receipt == unsure.receipt) == (0, False)

    stage(story, answer)


@pytest.mark.parametrize("settlement", ["void", "acted"])
def test_what_was_never_issued_is_asked_for_again_under_the_same_number(settlement):
    """The platform never had the request, or answered it with a refusal."""

    async def story(desk: Desk) -> None:
        unsure = await desk.request()
        desk.platform.settlement = settlement
        answers = [Refusal("receipt.unknown", retry=False)] * (settlement == "acted") + [issued()]
        call = desk.platform.call

        async def answered(request, **how):
            desk.platform.answer = answers.pop(0)
            return await call(request, **how)

        desk.platform.call = answered
        result = await desk.request()
        assert (result.outcome, result.receipt, result.copy) == ("done", unsure.receipt, 0)
        keys = [key for _, key in desk.platform.asked]
        assert len(set(keys)) == len(keys)

    stage(story, LATE)


@pytest.mark.parametrize(
    ("settlement", "state", "code"),
    [("void", "refused", "certificate.not_issued"), ("acted", "unknown", "certificate.answer_lost")],
)
def test_an_issue_that_nobody_waits_for_is_settled(settlement, state, code):
    """Rule 2: after a crash too."""

    async def story(desk: Desk) -> None:
        asking = asyncio.create_task(desk.request())
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert desk.intents() == [("issue", "open", None)]
        (intent,) = await desk.journal.open_intents(ISSUE)
        await desk.issuing.settle(intent, settlement)
        assert desk.intents() == [("issue", state, code)]
        assert (await desk.events())[-1] == ("issue", state, code)

    stage(story, None)
