"""What is told of a face decision: names and numbers of the method, none of the person (T9)."""

import msgspec

from runtime.messages import FaceEvidence
from vision.attack.result import LayerResult
from vision.verifier import Verification


class FaceChecked(FaceEvidence, frozen=True):
    """The evidence of a face decision, and where the time went; `stages` are seconds of computing."""

    seconds: float
    stages: dict[str, float]


def evidence(verification: Verification) -> FaceEvidence:
    """Return the evidence for the journal and the platform."""
    return FaceEvidence(
        decision=verification.outcome,
        operating_point=verification.operating_point,
        threshold=verification.threshold,
        bound=verification.bound,
        frames=verification.frames,
        model=verification.model,
        presentation_attack=verification.presentation_attack,
        layers={layer.layer: _said(layer) for layer in verification.layers},
    )


def checked(verification: Verification) -> FaceChecked:
    """Return the evidence for the UI, with its times."""
    said = msgspec.structs.asdict(evidence(verification))
    return FaceChecked(**said, seconds=verification.seconds, stages=verification.stages)


def _said(layer: LayerResult) -> str:
    return f"{layer.outcome}: {layer.reason}" if layer.reason is not None else layer.outcome
