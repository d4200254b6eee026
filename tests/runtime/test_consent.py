"""Consent to biometrics: recorded without personal data, and never assumed (T12)."""

import pytest

from runtime.messages.supervision import ConsentEvidence
from tests.runtime.identity_rig import Desk, Sensor, UsualSensor, stage


def test_consent_is_recorded_without_personal_data():
    """T12: purpose, version and outcome, as a step of its own."""

    async def story(desk: Desk) -> None:
        desk.session.consents.clear()
        result = await desk.consent.record(desk.session, "face", "2026-1", agreed=True)
        assert (result.outcome, result.code, result.alternatives) == ("done", None, ())
        assert desk.session.consented("face") == "2026-1"
        ((event, _, details),) = desk.audit.lines
        assert (event, details["purpose"], details["version"]) == ("consent_asked", "face", "2026-1")
        (told,) = await desk.events()
        assert (told.step, told.outcome, told.code) == ("consent", "done", None)
        assert told.consent == ConsentEvidence("face", "2026-1")

    stage(story)


@pytest.mark.parametrize(
    ("purpose", "sensor", "others"),
    [
        ("face", Sensor(), ("fingerprint", "assisted")),
        ("face", UsualSensor(), ("assisted",)),
        ("fingerprint", Sensor(), ("face", "assisted")),
    ],
)
def test_who_declines_is_offered_another_way_and_an_earlier_consent_is_taken_back(purpose, sensor, others):
    async def story(desk: Desk) -> None:
        result = await desk.consent.record(desk.session, purpose, "2026-3", agreed=False)
        assert (result.outcome, result.code, result.alternatives) == ("refused", "consent.declined", others)
        assert purpose not in desk.session.consents
        (told,) = await desk.events()
        assert (told.step, told.outcome, told.code) == ("consent", "refused", "consent.declined")
        assert told.consent == ConsentEvidence(purpose, "2026-3")

    stage(story, sensor=sensor)


def test_a_consent_that_cannot_be_recorded_is_none():
    """T12: no step without its event."""

    async def story(desk: Desk) -> None:
        desk.session.consents.clear()
        await desk.fill_disk()
        result = await desk.consent.record(desk.session, "face", "2026-1", agreed=True)
        assert (result.outcome, result.code) == ("refused", "journal.write_failed")
        assert desk.session.consents == {}

    stage(story)
