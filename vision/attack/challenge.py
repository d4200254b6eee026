"""Ask for movements in an order nobody can foresee, and see a head make them (T9).

Each movement begins from a frontal face and ends with one. What turns must have relief: of a photo or a screen the nose
follows the homography of the rest, and a flat picture that narrows without turning is an attack. One challenge runs at
a time; it is fed with a mesh and a time, and knows no clock or camera.
"""

import secrets
from collections.abc import Sequence
from typing import Literal, get_args

from vision.attack import mesh as geometry
from vision.attack.mesh import Mesh
from vision.attack.result import LayerResult, Outcome

Action = Literal["turn_left", "turn_right", "nod", "blink", "open_mouth"]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""Left and right are the person's own; a picture from the camera is not mirrored."""

LOOK = "face.look_at_camera"
GUIDANCE: dict[Action, str] = {action: f"face.{action}" for action in ACTIONS}
"""The guidance code that asks for each movement; `LOOK` asks for the frontal face between them."""

Failure = Literal[
    "challenge.timeout",
    "challenge.wrong_movement",
    "challenge.face_lost",
    "challenge.flat",
    "challenge.person_changed",
]
_ATTACKS = ("challenge.flat", "challenge.person_changed")

_FRONTAL_DEGREES = 12.0
_USUAL_PITCH = 10.0
"""From brow to chin a face leans so far from the vertical, as the mesh sees a frontal one."""

_BACK_DEGREES = 8.0
_TURN_DEGREES = 14.0
_NOD_DEGREES = 10.0
_HELD_FRAMES = 2
_FRONTAL_FRAMES = 3
_LOST_SECONDS = 1.0
_CLOSED_SHARE = 0.72
_OPEN_SHARE = 0.87
_LONGEST_BLINK = 1.5
_MOUTH_RISE = 0.18
_CLOSED_MOUTH = 0.10
_RELIEF_PER_DEGREE = 0.0055
_MOST_RESIDUAL = 0.055
_STRETCH_PER_DEGREE = 0.007
_SLACK_STRETCH = 1.02
_FLAT_STRETCH = 1.12
_FLAT_RELIEF = 0.08


def draw(count: int) -> tuple[Action, ...]:
    """Draw different movements, in an order from the system's randomness; at least one turns the head."""
    if not 1 <= count <= len(ACTIONS):
        raise ValueError(f"a challenge has 1 to {len(ACTIONS)} movements, not {count}")
    random = secrets.SystemRandom()
    while True:
        drawn = tuple(random.sample(ACTIONS, count))
        if not {"turn_left", "turn_right", "nod"}.isdisjoint(drawn):
            return drawn


class Challenge:
    """One run through the drawn movements; `guidance` says what to ask for, `result` how it ended."""

    def __init__(self, actions: Sequence[Action], *, now: float, seconds: float = 5.0) -> None:
        """Begin at the time `now`; each movement, and the frontal face before it, has `seconds`."""
        if not actions or not set(actions) <= set(ACTIONS):
            raise ValueError(f"no movements of {', '.join(ACTIONS)}: {actions}")
        self._left = list(actions)
        self._asked = len(actions)
        self._begun = now
        self._seconds = seconds
        self._deadline = now + seconds
        self._now = self._face_at = now
        self._reference: Mesh | None = None
        self._frontal = True
        self._held = 0
        self._closed_at: float | None = None
        self._flat = 0
        self._least_relief = float("inf")
        self.failure: Failure | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.failure is not None or not self._left

    @property
    def guidance(self) -> str | None:
        """The code of what to ask for now; None once it has ended."""
        if self.done:
            return None
        return LOOK if self._frontal else GUIDANCE[self._left[0]]

    @property
    def told(self) -> bool:
        """Whether a movement was asked for: the person knows what was drawn."""
        return not self._frontal or len(self._left) < self._asked

    @property
    def wants_identity(self) -> bool:
        """Whether the next frame counts only with `same_person`: the frontal ones."""
        return self._frontal and not self.done

    def consider(self, mesh: Mesh | None, now: float, *, same_person: bool | None = None) -> None:
        """Use a frame taken at `now` (seconds, not going back): its one face's mesh, None when there is not one face.

        `same_person` says whether the face is the one that the check began with; None when it was not compared. A frame
        without a sound mesh or with a time that goes back counts as one without a face.
        """
        if self.done:
            return
        if not now >= self._now:
            mesh, now = None, self._now
        self._now = now
        if mesh is not None and not mesh.sound:
            mesh = None
        if mesh is not None:
            self._face_at = now
        if now > self._deadline:
            self._fail("challenge.timeout")
        elif same_person is False:
            self._fail("challenge.person_changed")
        elif now - self._face_at > _LOST_SECONDS:
            self._fail("challenge.face_lost")
        elif mesh is None:
            self._held = 0
        elif self._frontal:
            self._see_frontal(mesh, compared=same_person is not None)
        elif self._reference is not None:
            self._see_movement(mesh, self._reference)

    def result(self) -> LayerResult:
        """Return the layer `challenge`: bona fide when every movement was made; no answer in time is no attack."""
        evidence = {"asked": float(self._asked), "made": float(self._asked - len(self._left))}
        evidence["seconds"] = self._now - self._begun
        if self._least_relief < float("inf"):
            evidence["relief"] = self._least_relief
        if self.failure is not None:
            attack = self.failure in _ATTACKS
            outcome: Outcome = "attack" if attack else "undecided"
            return LayerResult("challenge", outcome, 1.0 if attack else None, self.failure, evidence)
        if self._left:
            return LayerResult("challenge", "undecided", None, "challenge.running", evidence)
        return LayerResult("challenge", "bona_fide", 0.0, None, evidence)

    def abandon(self) -> None:
        """End it because the person left, whatever was made so far."""
        self._fail("challenge.face_lost")

    def wipe(self) -> None:
        """Overwrite the mesh it holds."""
        if self._reference is not None:
            self._reference.points.fill(0)
            self._reference = None

    def _see_frontal(self, mesh: Mesh, *, compared: bool) -> None:
        """Wait for a frontal face at rest, and measure the movement from it."""
        yaw, pitch = geometry.pose(mesh)
        if self._reference is None:
            frontal = abs(yaw) <= _FRONTAL_DEGREES and abs(pitch - _USUAL_PITCH) <= 1.5 * _FRONTAL_DEGREES
        else:
            turn = geometry.turn(self._reference, mesh)
            frontal = max(abs(turn.yaw), abs(turn.pitch)) <= _BACK_DEGREES and (
                geometry.mouth_open(mesh) <= geometry.mouth_open(self._reference) + _CLOSED_MOUTH
            )
        self._held = self._held + 1 if frontal and compared else 0
        if self._held >= _FRONTAL_FRAMES:
            self._held = 0
            self.wipe()
            self._reference = Mesh(mesh.points.copy(), mesh.presence, mesh.eyes)
            self._frontal = False
            self._deadline = self._now + self._seconds

    def _see_movement(self, mesh: Mesh, reference: Mesh) -> None:
        turn = geometry.turn(reference, mesh)
        relief = geometry.relief(reference, mesh)
        stretch = geometry.stretch(reference, mesh)
        if stretch >= _FLAT_STRETCH and relief < _FLAT_RELIEF:
            self._flat += 1
            if self._flat > _HELD_FRAMES:
                self._fail("challenge.flat")
            return
        wanted = self._left[0]
        if wanted == "blink":
            made = self._blinked(mesh, reference)
        elif wanted == "open_mouth":
            made = geometry.mouth_open(mesh) - geometry.mouth_open(reference) >= _MOUTH_RISE
        else:
            degrees = {"turn_left": turn.yaw, "turn_right": -turn.yaw, "nod": turn.pitch}[wanted]
            limit = _NOD_DEGREES if wanted == "nod" else _TURN_DEGREES
            solid = (
                relief >= _RELIEF_PER_DEGREE * abs(degrees)
                and turn.residual <= _MOST_RESIDUAL
                and stretch <= _SLACK_STRETCH + _STRETCH_PER_DEGREE * abs(degrees)
            )
            made = degrees >= limit and solid
            if made:
                self._least_relief = min(self._least_relief, relief)
        self._held = self._held + 1 if made else 0
        if self._held >= (1 if wanted == "blink" else _HELD_FRAMES):
            self._made()
        elif wanted in {"turn_left", "turn_right"} and not made:
            away = -turn.yaw if wanted == "turn_left" else turn.yaw
            if away >= 1.3 * _TURN_DEGREES:
                self._fail("challenge.wrong_movement")

    def _blinked(self, mesh: Mesh, reference: Mesh) -> bool:
        """Tell whether the eyes opened again after they had been closed, not for long, the head at rest."""
        turn = geometry.turn(reference, mesh)
        if max(abs(turn.yaw), abs(turn.pitch)) > 1.5 * _BACK_DEGREES:
            self._closed_at = None
            return False
        if mesh.eyes <= _CLOSED_SHARE * reference.eyes:
            if self._closed_at is None:
                self._closed_at = self._now
            return False
        if self._closed_at is None or mesh.eyes < _OPEN_SHARE * reference.eyes:
            return False
        brief = self._now - self._closed_at <= _LONGEST_BLINK
        self._closed_at = None
        return brief

    def _made(self) -> None:
        self._left.pop(0)
        self._held = self._flat = 0
        self._closed_at = None
        self._frontal = True
        self._deadline = self._now + self._seconds

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
