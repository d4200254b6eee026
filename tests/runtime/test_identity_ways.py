"""The other ways to be verified: a finger that the card carries, and a member of staff (T3, T9, H6)."""

from dataclasses import replace

import pytest

from devices.errors import DeviceError
from devices.idcard.fingers import FingerPosition
from runtime.audit import AuditError
from runtime.messages import Refusal
from runtime.session import SessionError
from sim.scripted import MATCH, NO_MATCH
from tests.runtime.house import record, values
from tests.runtime.identity_rig import Desk, Platform, Sensor, UsualSensor, fingers, stage
from vision.errors import VisionError


@pytest.mark.parametrize("means", ["face", "fingerprint"])
def test_no_biometric_is_touched_without_consent_to_it(means):
    """Consent comes first, and each for itself."""

    async def story(desk: Desk) -> None:
        del desk.session.consents[means]
        with pytest.raises(SessionError) as missing:
            await desk.verify(means)
        assert missing.value.code == "consent.missing"
        assert desk.reader.asked == []
        assert await desk.steps() == []

    stage(story, record(), sensor=Sensor())


def test_a_finger_that_the_card_carries_verifies_its_holder():
    """T3: each finger of the card is asked for by its name; only then are fingerprints read at all."""
    card = replace(record(), fingerprints=fingers(FingerPosition.RIGHT_THUMB, FingerPosition.LEFT_UNKNOWN))
    sensor = Sensor(False, True)

    async def story(desk: Desk) -> None:
        result = await desk.verify("fingerprint")
        assert (result.outcome, result.face, result.name) == ("done", None, "张**")
        assert desk.reader.asked == [True]
        assert desk.guidance == [
            "idcard.place_card",
            "finger.right_thumb",
            "finger.place",
            "finger.any",
            "finger.place",
        ]
        assert all(template.data.wiped for template in sensor.given)
        assert card.photo.wiped
        (asked,) = desk.platform.asked
        assert (asked.means, asked.consent, asked.face) == ("fingerprint", "2026-2", None)
        assert [step for step, _, _ in await desk.steps()] == ["read_card", "verify_finger", "assert_identity"]

    stage(story, card, sensor=sensor)


@pytest.mark.parametrize(
    ("sensor", "positions", "code", "others"),
    [
        (Sensor(False), (FingerPosition.RIGHT_INDEX,), "fingerprint.no_match", ("face", "assisted")),
        (Sensor(), (), "idcard.no_fingerprint", ("face", "assisted")),
        (UsualSensor(), (FingerPosition.RIGHT_INDEX,), "fingerprint.unfit", ("face", "assisted")),
        (None, (FingerPosition.RIGHT_INDEX,), "fingerprint.unfit", ("face", "assisted")),
        (
            Sensor(DeviceError("fingerprint.no_finger", "none", advice="x", retry=True)),
            (None,),
            "fingerprint.no_finger",
            ("face", "assisted"),
        ),
    ],
)
def test_a_finger_that_does_not_do_is_refused_with_the_other_ways(sensor, positions, code, others):
    card = replace(record(), fingerprints=fingers(*positions))

    async def story(desk: Desk) -> None:
        result = await desk.verify("fingerprint")
        assert (result.outcome, result.code, result.alternatives) == ("refused", code, others)
        assert all(value.wiped for value in values(card))
        assert all(finger.template.data.wiped for finger in card.fingerprints)
        assert desk.platform.asked == []

    stage(story, card, sensor=sensor)


@pytest.mark.parametrize(
    ("answer", "sensor", "others"),
    [
        (NO_MATCH, Sensor(), ("fingerprint", "assisted")),
        (NO_MATCH, UsualSensor(), ("assisted",)),
        (NO_MATCH, None, ("assisted",)),
        (VisionError("face.none", "no face", advice="x", retry=True), Sensor(), ("fingerprint", "assisted")),
        (VisionError("photo.no_face", "no face", advice="x", retry=False), None, ("assisted",)),
        (VisionError("vision.unavailable", "down", advice="x", retry=True), Sensor(), ("fingerprint", "assisted")),
        (replace(MATCH, presentation_attack="attack"), Sensor(), ("assisted",)),
    ],
)
def test_who_has_no_usable_face_is_offered_another_way(answer, sensor, others):
    """The finger only where it can be compared; who deceives the camera is for the staff."""

    async def story(desk: Desk) -> None:
        result = await desk.verify()
        assert (result.outcome, result.alternatives) == ("refused", others)
        assert desk.reader.asked == [False]

    stage(story, record(), script=[answer], sensor=sensor)


def test_a_member_of_staff_vouches_with_a_second_factor_on_the_record():
    """H6: the audit log names who vouched before the platform is asked, and never the code."""
    card = record()

    async def story(desk: Desk) -> None:
        desk.session.consents.clear()  # no biometric is used
        result = await desk.assist()
        assert (result.outcome, result.name, result.face) == ("done", "张**", None)
        (asked,) = desk.platform.asked
        assert (asked.means, asked.staff, asked.code, asked.consent) == ("assisted", "staff-1", "123456", "")
        assert card.photo.wiped
        assert [(event, details.get("staff"), details.get("outcome")) for event, _, details in desk.audit.lines] == [
            ("assistance_asked", "staff-1", None),
            ("identity_assisted", "staff-1", "done"),
        ]
        assert "123456" not in str(desk.audit.lines)
        assert [step for step, _, _ in await desk.steps()] == ["read_card", "note_assistance", "assert_identity"]

    stage(story, card)


@pytest.mark.parametrize("code", ["staff.refused", "staff.locked"])
def test_a_wrong_second_factor_verifies_nobody(code):
    card = record()

    async def story(desk: Desk) -> None:
        result = await desk.assist(code="000000")
        assert (result.outcome, result.code) == ("refused", code)
        assert all(value.wiped for value in values(card))
        assert desk.audit.lines[-1][2]["code"] == code

    stage(story, card, platform=Platform(Refusal(code, retry=False)))


def test_nobody_vouches_off_the_record():
    """H6: an audit log that cannot be written stops it."""

    async def story(desk: Desk) -> None:
        desk.audit.full = AuditError("audit.write_failed", "full")
        result = await desk.assist()
        assert (result.outcome, result.code) == ("refused", "audit.write_failed")
        assert desk.platform.asked == []

    stage(story, record())
