"""What a session holds is written nowhere, whatever its type (rule 1, T20, T22)."""

import copy
import json
import pickle

import msgspec
import pytest

from devices.fingerprint.finger import FingerImage, Template, TemplateFormat
from devices.idcard.fingers import CardFinger, FingerPosition
from devices.personal import Kind, PersonalBytes, PersonalText
from runtime.messages import SupervisionEvent, to_payload
from runtime.sessions import Sessions
from tests.runtime.house import Owner, record
from tests.runtime.session_rig import stage

PERSONAL = [
    *(PersonalText("张三丰990101199001011230", kind) for kind in (Kind.NAME, Kind.ADDRESS, Kind.DATE)),
    *(PersonalText("990101199001011230", kind) for kind in (Kind.IDENTIFIER, Kind.CARD_NUMBER)),
    PersonalBytes(b"photo"),
    Template(TemplateFormat.ZFM_256, PersonalBytes(bytes(256))),
    CardFinger(FingerPosition.RIGHT_THUMB, Template(TemplateFormat.GAT_1012, PersonalBytes(bytes(512)))),
    FingerImage(PersonalBytes(bytes(16))),
    record(),
]


@pytest.mark.parametrize("value", PERSONAL, ids=lambda value: type(value).__name__)
def test_personal_values_refuse_every_way_of_being_written(value):
    """Rule 1, T20, T22, by type: masked in print, no pickle, no copy, no JSON, no MessagePack, no journal."""
    for shown in (repr(value), str(value), f"{value}"):
        assert "三丰" not in shown
        assert "199001011230" not in shown
    for write in (
        pickle.dumps,
        copy.deepcopy,
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        lambda one: msgspec.json.encode(msgspec.to_builtins(one)),
    ):
        with pytest.raises((TypeError, pickle.PicklingError)):
            write(value)
    with pytest.raises(TypeError):
        to_payload(SupervisionEvent(value, "step", "done", None, 0.0, 0.0, "boot", rig=False))


def test_a_session_is_written_nowhere():
    async def story(keeper: Sessions) -> None:
        session = await keeper.open(Owner())
        session.keep(record())
        session.keep_assertion(b"assertion", 60.0)
        assert "张" not in repr(vars(session))
        assert "assertion'" not in repr(vars(session)["_assertion"])
        for write in (pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode):
            with pytest.raises((TypeError, pickle.PicklingError)):
                write(session)

    stage(story)
