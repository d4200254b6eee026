"""The rig's fingerprint sensor: its fingers can be told apart, and no bytes bring it down (T3)."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.fingerprint.protocol import IMAGE_BYTES, Code, Command, encode_ack, encode_command, encode_data
from sim.devices.fingerprint import READY_BYTE, VirtualFingerprintSensor, encode_record, picture, press, score

FINGERS = [f"{hand} {name}" for hand in ("left", "right") for name in ("thumb", "index", "middle", "ring", "little")]


def record(finger: str, count: int = 1) -> bytes:
    return encode_record(press(finger, count, 1.0), 512)


def test_presses_of_a_finger_are_alike_and_never_the_same() -> None:
    for finger in FINGERS:
        assert record(finger, 1) != record(finger, 2)
        assert min(score(record(finger, first), record(finger, second)) for first, second in ((1, 2), (2, 3))) > 100
        assert record(finger, 1) == record(finger, 1), "deterministic"


def test_different_fingers_are_not_alike() -> None:
    assert max(score(record(one), record(other)) for one, other in combinations(FINGERS, 2)) < 20


def test_pictures_differ_by_finger_and_are_white_without_one() -> None:
    assert len({picture(finger) for finger in FINGERS[:3]}) == 3
    assert picture("left thumb") == picture("left thumb")
    assert picture(None) == b"\xff" * IMAGE_BYTES


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=512), st.binary(max_size=512))
def test_any_bytes_have_a_score(first: bytes, second: bytes) -> None:
    assert 0 <= score(first, second) <= 200
    assert score(first, bytes(512)) == 0, "an overwritten buffer is like nothing"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(encode_command, st.sampled_from(Command), st.binary(max_size=4)),
            st.builds(encode_data, st.binary(max_size=600), st.sampled_from((32, 64, 128, 256))),
        ),
        max_size=12,
    )
)
def test_no_bytes_bring_it_down(chunks: list[bytes]) -> None:
    sensor = VirtualFingerprintSensor()
    sensor.feed(encode_command(Command.VERIFY_PASSWORD, bytes(4)))
    for chunk in chunks:
        sensor.feed(chunk)
    assert all(len(buffer) == 512 for buffer in sensor.buffers.values())


def test_it_obeys_nobody_without_the_password() -> None:
    sensor = VirtualFingerprintSensor()
    assert sensor.feed(encode_command(Command.GENERATE_IMAGE)) == encode_ack(Code.NOT_VERIFIED)
    sensor.wrong_password()
    assert sensor.feed(encode_command(Command.VERIFY_PASSWORD, bytes(4))) == encode_ack(Code.WRONG_PASSWORD)
    sensor.power_cycle()
    assert sensor.feed(b"") == READY_BYTE
    assert sensor.feed(b"") == b""
