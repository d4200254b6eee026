"""The models in memory: loaded only when their bytes are those of the manifest, and calibrated for each other (T9)."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.adaptation import Adaptation, decode, identity
from vision.errors import VisionError
from vision.manifest import MANIFEST, Manifest, ModelEntry, Threshold, damaged, expect, read_bytes, read_manifest

Image = npt.NDArray[np.uint8]
"""A picture: height x width x 3, BGR, top row first."""

Floats = npt.NDArray[np.float32]

_PREPARE_ADVICE = "run `govterm models prepare`, or `govterm models install FILE` for a model of your own"
_CALIBRATE_ADVICE = "run `govterm face calibrate` for these models, or use an operating point of the manifest"
_REINSTALL_ADVICE = "reinstall this package, or calibrate again"
_MEMORY_MIB = 256.0
_FACES = (2, 3, 112, 112)
"""The recogniser's input: a face and its mirror image."""


class Network:
    """A model in memory at its fixed input shape: one session, one thread, warm."""

    def __init__(self, entry: ModelEntry, data: bytes) -> None:
        """Load a model's bytes; VisionError `model.damaged` when ONNX Runtime refuses them or the shape is another."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would write an identifier and send usage to its maker (T20)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # freed activations go back to malloc, which overwrites them
        options.log_severity_level = 3
        self.entry = entry
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            self._input: str = self._session.get_inputs()[0].name
            self._outputs: list[str] = [output.name for output in self._session.get_outputs()]
            self.run(np.zeros(entry.input_shape, np.float32))
        except Exception as error:  # its exceptions share no base class
            raise damaged(entry.name, f"ONNX Runtime refuses it: {error}", _PREPARE_ADVICE) from error

    def run(self, batch: Floats) -> dict[str, Floats]:
        """Run one batch of exactly the fixed shape; the outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, {self._input: batch}), strict=True))


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models; `identity` names each with the start of its hash and goes into every decision.

    `mesh`, `eye` and `attack` are the networks against presentation attacks, None where the manifest names none.
    """

    detector: Network
    recogniser: Network
    adaptation: Adaptation
    identity: str
    thresholds: tuple[Threshold, ...]
    mesh: Network | None = None
    eye: Network | None = None
    attack: Network | None = None

    def threshold(self, operating_point: str, frames: int) -> Threshold:
        """Return the row for a false-match rate (`1e-5`) and a number of frames; VisionError `model.no_threshold`."""
        for row in self.thresholds:
            if (row.operating_point, row.frames) == (operating_point, frames):
                return row
        message = f"the manifest has no threshold for {operating_point} at {frames} frames"
        raise VisionError("model.no_threshold", message, advice=_CALIBRATE_ADVICE, retry=False)

    def thresholds_of(self, operating_point: str, frames: int) -> tuple[Threshold, ...]:
        """Return the rows for one frame up to so many; VisionError `model.no_threshold` when one is missing."""
        return tuple(self.threshold(operating_point, count) for count in range(1, frames + 1))


def load(
    directory: Path, manifest: Path = MANIFEST, *, memory_mib: float = _MEMORY_MIB, calibrated: bool = True
) -> Models:
    """Load and warm the models of `directory`; nothing is used before its hash was compared with the manifest's.

    With `calibrated` False the calibration is left out, to make another: without one they decide nothing.
    VisionError `model.missing`, `model.damaged`, `model.unsuitable` when the recogniser takes or gives something else,
    `model.other_calibration` when the adaptation belongs to other models, `model.too_large` when loading them, ONNX
    Runtime included, takes more than `memory_mib`.
    """
    read = read_manifest(manifest)
    adaptation, thresholds, adapted = _calibration(read, manifest) if calibrated else (None, (), [])
    before = resident_mib()
    detector, recogniser = (load_network(entry, directory) for entry in (read.detector, read.recogniser))
    others = (read.mesh, read.eye, read.attack)
    mesh, eye, attack = (load_network(entry, directory) if entry else None for entry in others)
    if (grown := resident_mib() - before) > memory_mib:
        message = f"the models take {grown:.0f} MiB, {memory_mib:.0f} are allowed"
        advice = "raise vision.model_memory_mib if the board has it, or use smaller models"
        raise VisionError("model.too_large", message, advice=advice, retry=False)
    numbers = _numbers(recogniser)
    adaptation = identity(numbers) if adaptation is None else adaptation
    if adaptation.probe_mean.shape != (numbers,):
        raise _unsuitable(f"the adaptation is for {adaptation.probe_mean.shape[0]} numbers, not {numbers}")
    names = [*(entry.identity for entry in read.entries), *adapted]
    return Models(detector, recogniser, adaptation, " ".join(names), thresholds, mesh, eye, attack)


def load_network(entry: ModelEntry, directory: Path) -> Network:
    """Load one model of a manifest from `directory`; VisionError `model.missing`, `model.damaged`."""
    data = read_bytes(entry.name, directory / entry.file_name, _PREPARE_ADVICE)
    expect(entry.name, data, entry.prepared_sha256, _PREPARE_ADVICE)
    return Network(entry, data)


def _numbers(recogniser: Network) -> int:
    """Return how many numbers describe a face."""
    if recogniser.entry.input_shape != _FACES:
        raise _unsuitable(f"its input is {recogniser.entry.input_shape}, not {_FACES}")
    outputs = recogniser.run(np.zeros(_FACES, np.float32)).values()
    shapes = [output.shape for output in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != _FACES[0]:
        raise _unsuitable(f"its outputs are {shapes}, not one of {_FACES[0]} rows")
    return int(shapes[0][1])


def _unsuitable(detail: str) -> VisionError:
    advice = "docs/models.md says what a recogniser must take and give"
    return VisionError("model.unsuitable", f"the recogniser does not fit: {detail}", advice=advice, retry=False)


def _calibration(manifest: Manifest, path: Path) -> tuple[Adaptation | None, tuple[Threshold, ...], list[str]]:
    """Return the adaptation, its thresholds and its identity; none of them for models that were never calibrated."""
    entry = manifest.adaptation
    if entry is None:
        return None, (), []
    used = (manifest.detector.identity, manifest.recogniser.identity)
    if entry.models != used:
        message = f"calibrated for {' '.join(entry.models)}, not for {' '.join(used)}"
        raise VisionError("model.other_calibration", message, advice=_CALIBRATE_ADVICE, retry=False)
    data = read_bytes(entry.file, path.with_name(entry.file), _REINSTALL_ADVICE)
    expect(entry.file, data, entry.sha256, _REINSTALL_ADVICE)
    return decode(data), manifest.thresholds, [f"adaptation@{entry.sha256[:12]}"]


def resident_mib() -> float:
    """Return how much memory of this process is resident, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
