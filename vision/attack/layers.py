"""The layers of the presentation-attack detection as one check uses them (T9)."""

import zlib
from collections.abc import Callable

from vision.align import align
from vision.attack.challenge import Challenge, draw
from vision.attack.mesh import Mesher
from vision.attack.network import PassiveNetwork
from vision.attack.passive import Texture
from vision.attack.result import LayerResult
from vision.attack.surround import Surround
from vision.detect import Face
from vision.embed import embed
from vision.errors import VisionError
from vision.models import Floats, Image, Models, Network
from vision.pipeline import SAME_PERSON, Layer, Sighting

_EVERY = 8
"""Rows between two that tell frames apart: noise makes each of them differ."""

_ADVICE = "add [mesh] and [eye] to the manifest as the package's own has them, or set vision.challenge to 0"


class Detection:
    """What a terminal looks for attacks with; `layers` are made anew for each check.

    `required` names the layers that have to come to a result: `grid`, `challenge` when movements are asked for, and
    `network` when the manifest names one.
    """

    def __init__(self, models: Models, *, movements: int) -> None:
        """Ask for so many movements, 0 for none.

        VisionError `model.no_mesh` when they are asked for and the manifest names nothing to see them with,
        `model.damaged` when the operator's network is of another kind.
        """
        self._models = models
        self._movements = movements
        self._mesher: Mesher | None = None
        self.required = ["grid"]
        if movements:
            if models.mesh is None or models.eye is None:
                message = "the manifest names no models to watch a challenge with"
                raise VisionError("model.no_mesh", message, advice=_ADVICE, retry=False)
            self._mesher = Mesher(models.mesh, models.eye)
            self.required.append("challenge")
        if models.attack is not None:
            PassiveNetwork(models.attack)  # refused now, not at the first check
            self.required.append("network")

    def layers(self) -> list[Layer]:
        """Return the layers of one check, the challenge newly drawn."""
        layers: list[Layer] = [Passive(Texture(), _box), Passive(Surround(), _landmarks)]
        if self._models.attack is not None:
            layers.append(Passive(PassiveNetwork(self._models.attack), _box))
        if self._mesher is not None:
            layers.append(Asked(self._mesher, self._models.recogniser, movements=self._movements))
        return layers


class Passive(Layer):
    """Measures that ask nothing of the person."""

    def __init__(self, measures: Texture | Surround | PassiveNetwork, place: Callable[[Face], Floats]) -> None:
        """Take the measures, and what they want to know of a face."""
        self._measures = measures
        self._place = place
        self._frames: set[int] = set()

    def look(self, seen: Sighting) -> None:
        """Measure any frame once: a blurred print is a print, but one picture shown again is no second frame."""
        checksum = zlib.crc32(seen.frame[::_EVERY].tobytes())
        if checksum not in self._frames:
            self._frames.add(checksum)
            self._measures.look(seen.frame, self._place(seen.face))

    def results(self) -> tuple[LayerResult, ...]:
        """Return what was found so far."""
        return self._measures.results()

    def wipe(self) -> None:
        """Overwrite the measures and begin anew."""
        self._frames.clear()
        self._measures.wipe()


class Asked(Layer):
    """The challenge, for one person from its first fit frame on: who leaves once a movement is asked for has failed."""

    def __init__(self, mesher: Mesher, recogniser: Network, *, movements: int) -> None:
        """Draw so many movements."""
        self._mesher = mesher
        self._recogniser = recogniser
        self._movements = draw(movements)
        self._challenge: Challenge | None = None
        self._person: Floats | None = None

    @property
    def prompt(self) -> str | None:
        """The movement, or the frontal face, to ask for now; None before the first fit frame and at the end."""
        return self._challenge.guidance if self._challenge is not None else None

    @property
    def over(self) -> bool:
        """Whether the challenge has ended, well or not."""
        return self._challenge is not None and self._challenge.done

    @property
    def person(self) -> Floats | None:
        """Who was asked."""
        return self._person

    def look(self, seen: Sighting) -> None:
        """Begin with the first fit frame; compare the fit ones between the movements with it."""
        if self._challenge is None:
            if not seen.fit:
                return
            self._challenge = Challenge(self._movements, now=seen.taken_at)
        if self._challenge.done:
            return
        same = self._same_person(seen.frame, seen.face) if self._challenge.wants_identity and seen.fit else None
        mesh = self._mesher.find(seen.frame, seen.face.box, seen.face.landmarks)
        self._challenge.consider(mesh, seen.taken_at, same_person=same)
        mesh.points.fill(0)

    def results(self) -> tuple[LayerResult, ...]:
        """Return the layer `challenge`."""
        if self._challenge is None:
            return (LayerResult("challenge", "undecided", None, "challenge.running"),)
        return (self._challenge.result(),)

    def wipe(self) -> None:
        """Overwrite the mesh and the embedding; a challenge whose movements are known to the person has failed."""
        if self._person is not None:
            self._person.fill(0)
            self._person = None
        if self._challenge is not None:
            self._challenge.wipe()
            if self._challenge.told:
                self._challenge.abandon()
            else:
                self._challenge = None

    def _same_person(self, frame: Image, face: Face) -> bool:
        aligned = align(frame, face.landmarks)
        embedding = embed(self._recogniser, aligned)
        aligned.fill(0)
        if self._person is None:
            self._person = embedding
            return True
        same = float(self._person @ embedding) >= SAME_PERSON
        embedding.fill(0)
        return same


def _box(face: Face) -> Floats:
    return face.box


def _landmarks(face: Face) -> Floats:
    return face.landmarks
