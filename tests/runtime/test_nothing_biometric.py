"""No picture and no template leaves the board, by the line, the journal, the audit log or the local API (T20)."""

import time
from dataclasses import astuple, fields
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest

from runtime.messages import FaceEvidence, SupervisionEvent
from sim.assets import Assets, chip_photo
from sim.people import Citizen
from sim.photo import decode
from sim.scan import needles, scan_bytes
from sim.scene import Scene, load_people
from tests.runtime.house import CERTIFICATE, CITIZEN, Caller, House, tell
from tests.vision.conftest import assets, model_directory, models
from transport.envelope import Sealer
from vision import pipeline
from vision.attack.layers import Detection
from vision.models import Floats, Image, Models, Network
from vision.pipeline import FaceCheck
from vision.verifier import GuidanceListener, Verification

__all__ = ["assets", "model_directory", "models"]

MAGICS = {
    "JPEG": (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb"),
    "WebP": (b"WEBPVP8",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
}


class Looking:
    """The real check in this process, before the rig's scene; what it computes of the person is kept to search for."""

    def __init__(self, models: Models, assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models = models
        self.templates: list[Floats] = []
        self.scene = Scene(seed=1)
        self.scene.enter([load_people(assets)["grace_hopper"]])
        embed = pipeline.embed

        def kept(network: Network, aligned: Image) -> Floats:
            embedding = embed(network, aligned)
            self.templates.append(embedding.copy())
            return embedding

        monkeypatch.setattr(pipeline, "embed", kept)

    async def verify(self, photo: memoryview, guidance: GuidanceListener, *, deadline_seconds: float) -> Verification:
        assert deadline_seconds > 0
        guidance("face.look_at_camera")
        detection, begun = Detection(self.models, movements=0), time.monotonic()
        picture = decode(bytes(photo))
        check = FaceCheck(self.models, picture, frames=3, layers=detection.layers(), required=detection.required)
        self.templates.append(check._reference.copy())
        at = 0.0
        while not check.ready(at):
            check.consider(self.scene.frame(), at)
            at += 1 / 15
        decision = check.decide()
        shared = {field.name: getattr(decision, field.name) for field in fields(decision) if field.name != "match"}
        outcome: Literal["match", "no_match"] = "match" if decision.match else "no_match"
        return Verification(outcome=outcome, seconds=time.monotonic() - begun, **shared)


def test_a_check_leaves_a_record_of_the_method_and_nothing_of_the_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Models, assets: Assets
) -> None:
    """Every plaintext that the terminal seals, every row and line that it writes, every answer that it gives."""
    said: list[bytes] = []
    seal = Sealer.seal

    def heard(self: Sealer, stream: str, plaintext: bytes) -> bytes:
        if self._direction == "up":
            said.append(bytes(plaintext))
        return seal(self, stream, plaintext)

    monkeypatch.setattr(Sealer, "seal", heard)
    looking = Looking(models, assets, monkeypatch)
    photo = chip_photo(assets, "grace_hopper")

    async def story(house: House, ui: Caller) -> list[FaceEvidence]:
        monkeypatch.setattr(house.vision, "verify", looking.verify)
        names = [field.name for field in fields(Citizen)]
        house.reader.place_card(**dict(zip(names, astuple(CITIZEN), strict=True)), photo=photo)
        session = await house.consenting(ui)
        answer = await ui.call("session.verify_identity", session=session)
        assert answer["outcome"] == "done", answer
        certificate = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        await ui.call("session.close", session=session)
        await ui.notice("session.ended")
        await house.until(lambda: house.platform.summary()["records"] >= 6)
        said.extend(msgspec.json.encode(one) for one in (answer, certificate))
        bodies = [bytes(row[0]) for row in house.rows("SELECT body FROM records ORDER BY sequence")]
        said.extend(bodies)
        said.append("\n".join(house.journal.iterdump()).encode())
        said.append((tmp_path / "audit.jsonl").read_bytes())
        events = [msgspec.msgpack.decode(body, type=SupervisionEvent) for body in bodies]
        return [event.face for event in events if event.face is not None]

    (evidence,) = tell(tmp_path, story, monkeypatch)
    row = models.threshold("1e-5", 3)
    assert (evidence.decision, evidence.operating_point, evidence.frames) == ("match", "1e-5", 3)
    assert (evidence.threshold, evidence.bound, evidence.model) == (row.cosine, row.bound, models.identity)
    assert evidence.presentation_attack == evidence.layers["grid"] == "bona_fide"
    assert set(evidence.layers) == {"grid", "colour", "motion", "border"}

    assert sum(b"verify_face" in one for one in said) >= 3, "sealed, kept, answered"
    assert len(looking.templates) == 5, "the reference raw and adapted, and three frames"
    wanted = needles({}, {"photo": photo})
    for template in looking.templates:
        for numbers in (template, template.astype(np.float64)):
            wanted += needles({}, {"template": numbers.tobytes()})
    for one in said:
        assert scan_bytes(one, wanted) == []
        assert [kind for kind, starts in MAGICS.items() if any(start in one for start in starts)] == []
    for secret in (photo, looking.templates[0].tobytes(), looking.templates[-1].astype(np.float64).tobytes()):
        assert scan_bytes(b"a message " + secret, wanted), "the search finds what it looks for"
