"""Measure how well a frame serves a face check and, when it does not, say what to tell the person (T9).

Names follow ISO/IEC 29794-5 where they mean the same. The limits come from the spread of each measure over public
photographs (docs/face-check.md); lengths are pixels of the frame, light is 0 to 255, angles are degrees.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from vision.align import SIZE, TEMPLATE, similarity
from vision.detect import Face
from vision.models import Floats, Image

_USABLE_SCORE = 0.8
_BYSTANDER_RATIO = 0.5

_UNDER_EXPOSED, _OVER_EXPOSED = 25, 247
"""Light that far down or up says nothing (the ranges of ISO/IEC 29794-5)."""

_NOSE_FORWARD, _NOSE_DOWN = 0.55, 0.67
_MOUTH_FORWARD, _MOUTH_DOWN = 0.10, 1.155
"""The tip of the nose and the middle of the mouth, seen from between the eyes, in distances between the eyes."""

_MOUTH_RELIEF, _MOUTH_COLOUR = 0.042, 25.0
_EYES_LIGHT = 0.28

_SURE = (0.8, 0.9)
_SHARP = 0.1
_TURNED = 30.0
"""Where each part of the unified score ends: the detector's score, sharpness, and the angle of the head."""

# Places in the aligned face, rows and columns.
_INNER = np.s_[20:100, 20:100]
_EYES = (np.s_[46:58, 30:46], np.s_[46:58, 66:82])
_CHEEKS = (np.s_[60:74, 24:40], np.s_[60:74, 72:88])
_SKIN = (np.s_[40:60, 49:64], np.s_[60:67, 28:46], np.s_[60:67, 66:84])
_MOUTH = np.s_[82:106, 38:74]
_LIPS = np.s_[80:106, 40:72]

_CORNERS = np.array([[0, 0], [SIZE, 0], [0, SIZE], [SIZE, SIZE]], np.float32)


@dataclass(frozen=True, slots=True)
class Quality:
    """The measures of a frame with one face; nothing in it tells who it is.

    `head_size` is the larger share of the frame that the box takes, across or down. `margin` is how far inside the
    frame the recogniser's square lies, in distances between the eyes, negative when it is cut off. `luminance` is the
    median of the face. The exposure preventions are shares of its pixels. Yaw is positive when the nose points to the
    picture's right, pitch when it points down, roll when the head leans clockwise. `sharpness` is the contrast of the
    finest detail against the light. `mouth_occlusion_prevention` and `eyes_visible` are hints of a mask and of dark
    glasses, from light and colour; 1 is their limit. `unified_quality_score` in [0, 1] chooses among frames.
    """

    confidence: float
    inter_eye_distance: float
    head_size: float
    margin: float
    luminance: float
    under_exposure_prevention: float
    over_exposure_prevention: float
    head_pose_yaw: float
    head_pose_pitch: float
    head_pose_roll: float
    sharpness: float
    mouth_occlusion_prevention: float
    eyes_visible: float

    @property
    def guidance(self) -> str | None:
        """The code of the first limit that is missed, None when the frame serves; a measure that is no number does."""
        for limit in LIMITS:
            if not limit.least <= getattr(self, limit.measure) <= limit.most:
                return limit.code
        return None

    @property
    def unified_quality_score(self) -> float:
        """How sure the detector, how sharp and how frontal the face is, each 1 at its best, multiplied."""
        low, high = _SURE
        sure = min(1.0, max(0.0, (self.confidence - low) / (high - low)))
        turned = float(np.hypot(self.head_pose_yaw, self.head_pose_pitch))
        frontal = max(0.0, 1 - (turned / _TURNED) ** 2)
        return sure * min(1.0, self.sharpness / _SHARP) * frontal


@dataclass(frozen=True, slots=True)
class Limit:
    """A measure of `Quality`, the range in which a frame serves, and what to tell the person otherwise."""

    measure: str
    least: float
    most: float
    code: str


_ANY = float("inf")

LIMITS = (
    Limit("inter_eye_distance", 45.0, _ANY, "face.come_closer"),
    Limit("head_size", 0.0, 0.8, "face.move_back"),
    Limit("margin", 0.0, _ANY, "face.center"),
    Limit("luminance", 45.0, _ANY, "face.too_dark"),
    Limit("luminance", 0.0, 225.0, "face.too_bright"),
    Limit("under_exposure_prevention", 0.5, 1.0, "face.too_dark"),
    Limit("head_pose_yaw", -20.0, 20.0, "face.look_at_camera"),
    Limit("head_pose_pitch", -20.0, 20.0, "face.look_at_camera"),
    Limit("head_pose_roll", -20.0, 20.0, "face.look_at_camera"),
    Limit("sharpness", 0.045, _ANY, "face.hold_still"),
    Limit("eyes_visible", 1.0, _ANY, "face.take_off_glasses"),
    Limit("mouth_occlusion_prevention", 1.0, _ANY, "face.take_off_mask"),
    Limit("over_exposure_prevention", 0.7, 1.0, "face.too_bright"),
)
"""In the order in which a person is told of them: a white mask is too bright as well."""


def usable(faces: list[Face], *, least_score: float = _USABLE_SCORE) -> list[Face]:
    """Return the faces that count, the nearest first: sure ones, without bystanders.

    A bystander's eyes are less than half as far apart as the nearest face's: someone waiting behind, or on a poster.
    """
    sure = sorted(
        (face for face in faces if face.score >= least_score and face.eye_distance > 0),
        key=lambda face: -face.eye_distance,
    )
    return [face for face in sure if face.eye_distance >= _BYSTANDER_RATIO * sure[0].eye_distance]


def single_face_present(frame: Image, faces: list[Face]) -> str | None:
    """Return None when exactly one face is usable, else `face.many`, `face.none`, or what hides it.

    What hides it is `face.too_dark` or `face.too_bright`, of the whole frame.
    """
    if len(faces) == 1:
        return None
    if faces:
        return "face.many"
    level = float(np.median(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)))
    hidden = (limit.code for limit in LIMITS if limit.measure == "luminance" and not limit.least <= level <= limit.most)
    return next(hidden, "face.none")


def assess(frame: Image, face: Face, aligned: Image) -> Quality:
    """Measure the one usable face of a frame, of which `aligned` is the recogniser's square (`vision.align`)."""
    lab = cv2.cvtColor(aligned, cv2.COLOR_BGR2LAB).astype(np.float32)
    light = cv2.cvtColor(aligned, cv2.COLOR_BGR2GRAY).astype(np.float32)
    try:
        inner = light[_INNER]
        height, width = frame.shape[:2]
        yaw, pitch, roll = pose(face.landmarks)
        return Quality(
            confidence=face.score,
            inter_eye_distance=face.eye_distance,
            head_size=float(max(face.box[2] / width, face.box[3] / height)),
            margin=_margin(width, height, face),
            luminance=float(np.median(inner)),
            under_exposure_prevention=1 - float(np.mean(inner <= _UNDER_EXPOSED)),
            over_exposure_prevention=1 - float(np.mean(inner >= _OVER_EXPOSED)),
            head_pose_yaw=yaw,
            head_pose_pitch=pitch,
            head_pose_roll=roll,
            sharpness=_sharpness(inner),
            mouth_occlusion_prevention=_mouth_seen(lab),
            eyes_visible=_eyes_seen(light),
        )
    finally:
        lab.fill(0)
        light.fill(0)


def pose(landmarks: Floats) -> tuple[float, float, float]:
    """Return yaw, pitch and roll of a head from its five landmarks, as a far camera sees a mean head.

    The nose stands before the plane of the eyes: a turned head moves its tip along the line of the eyes, a nodding one
    across it. Both are told from the tip's place between the eyes and the mouth, so that the size does not count.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.astype(np.float64)
    eyes = right_eye - left_eye
    middle = (left_eye + right_eye) / 2
    mouth = (left_mouth + right_mouth) / 2 - middle
    downward = np.array([-eyes[1], eyes[0]])
    along = float((nose - middle) @ eyes / (eyes @ eyes))
    down = float((nose - middle) @ downward / (mouth @ downward))
    yaw = np.arctan(along / _NOSE_FORWARD)
    pitch = np.arctan((down * _MOUTH_DOWN - _NOSE_DOWN) / (_NOSE_FORWARD - down * _MOUTH_FORWARD))
    roll = np.arctan2(eyes[1], eyes[0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def _margin(width: int, height: int, face: Face) -> float:
    """How far the recogniser's square stays inside the frame: the box of a cut-off face would hug the edge."""
    to_frame = similarity(TEMPLATE, face.landmarks)
    corners = _CORNERS @ to_frame[:, :2].T + to_frame[:, 2]
    return float(min(corners.min(), (np.array([width, height]) - corners).min())) / max(face.eye_distance, 1.0)


def _sharpness(inner: Floats) -> float:
    """The second differences at half size, across or down (whichever moved), against the light."""
    half = cv2.resize(inner, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(min(np.std(np.diff(half, 2, axis)) for axis in (0, 1))) / max(float(np.median(inner)), 1.0)


def _mouth_seen(lab: Floats) -> float:
    """Lips and nostrils give relief that cloth lacks, and the chin has the cheeks' colour; beards have both."""
    skin = np.median(np.concatenate([lab[place].reshape(-1, 3) for place in _SKIN]), axis=0)
    mouth = np.median(lab[_MOUTH].reshape(-1, 3), axis=0)
    detail = cv2.GaussianBlur(lab[:, :, 0], (0, 0), 1) - cv2.GaussianBlur(lab[:, :, 0], (0, 0), 5)
    relief = float(np.std(detail[_LIPS])) / max(float(skin[0]), 1.0)
    colour = float(np.hypot(*(mouth - skin)[1:]))
    return min(relief / _MOUTH_RELIEF, _MOUTH_COLOUR / max(colour, 1.0))


def _eyes_seen(light: Floats) -> float:
    """The lighter eye's surroundings against the cheeks: dark glasses cover them whole, a shadow does not."""
    eyes = max(float(np.median(light[place])) for place in _EYES)
    cheeks = float(np.median(np.concatenate([light[place].ravel() for place in _CHEEKS])))
    return eyes / max(cheeks, 1.0) / _EYES_LIGHT
