"""Decide whether a frame serves a face check and, if not, what to tell the person (T9).

The limits come from the spread of each measure over public portraits; lengths are pixels of the frame.
"""

import cv2
import numpy as np

from vision.align import SIZE, TEMPLATE, align, similarity
from vision.detect import Face
from vision.models import Floats, Image

_USABLE_SCORE = 0.8
_BYSTANDER_RATIO = 0.5
_LEAST_EYE_DISTANCE = 45.0
_LARGEST_SHARE = 0.8
_DARK, _BRIGHT = 45, 225
_LARGEST_ROLL_DEGREES = 20.0
_NOSE_ACROSS = (0.3, 0.7)
_NOSE_DOWN = (0.42, 0.75)
_LEAST_SHARPNESS = 0.045
_INNER = slice(20, 100)
_CORNERS = np.array([[0, 0], [SIZE, 0], [0, SIZE], [SIZE, SIZE]], np.float32)


def usable(faces: list[Face]) -> list[Face]:
    """Return the faces that count, the nearest first: sure ones, without bystanders.

    A bystander's eyes are less than half as far apart as the nearest face's: someone waiting behind.
    """
    sure = sorted((face for face in faces if face.score >= _USABLE_SCORE), key=lambda face: -face.eye_distance)
    return [face for face in sure if face.eye_distance >= _BYSTANDER_RATIO * sure[0].eye_distance]


def assess(frame: Image, faces: list[Face]) -> str | None:
    """Return the guidance code of a frame with these usable faces that cannot serve, None when it can.

    Codes: `face.none`, `face.many`, `face.come_closer`, `face.move_back`, `face.center`, `face.too_dark`,
    `face.too_bright`, `face.look_at_camera`, `face.hold_still`.
    """
    if not faces:
        return _exposure(frame) or "face.none"
    if len(faces) > 1:
        return "face.many"
    (face,) = faces
    aligned = align(frame, face.landmarks)
    try:
        inner = aligned[_INNER, _INNER]
        return _place(frame, face) or _exposure(inner) or _pose(face.landmarks) or _focus(inner)
    finally:
        aligned.fill(0)


def _place(frame: Image, face: Face) -> str | None:
    """Judge size, and whether the recogniser's square lies in the frame: the box of a cut-off face hugs the edge."""
    height, width = frame.shape[:2]
    if face.eye_distance < _LEAST_EYE_DISTANCE:
        return "face.come_closer"
    if np.any(face.box[2:] > _LARGEST_SHARE * np.array([width, height])):
        return "face.move_back"
    to_frame = similarity(TEMPLATE, face.landmarks)
    corners = _CORNERS @ to_frame[:, :2].T + to_frame[:, 2]
    inside = np.all(corners >= 0) and np.all(corners <= (width, height))
    return None if inside else "face.center"


def _exposure(picture: Image) -> str | None:
    level = np.median(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    if level < _DARK:
        return "face.too_dark"
    return "face.too_bright" if level > _BRIGHT else None


def _pose(landmarks: Floats) -> str | None:
    """Judge the nose's place along the line of the eyes and between eyes and mouth, and the tilt of that line."""
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    eyes = right_eye - left_eye
    across = float((nose - left_eye) @ eyes / (eyes @ eyes))
    downward = np.array([-eyes[1], eyes[0]])
    middle = (left_eye + right_eye) / 2
    down = float((nose - middle) @ downward / (((left_mouth + right_mouth) / 2 - middle) @ downward))
    roll = abs(float(np.degrees(np.arctan2(eyes[1], eyes[0]))))
    frontal = (
        _NOSE_ACROSS[0] <= across <= _NOSE_ACROSS[1]
        and _NOSE_DOWN[0] <= down <= _NOSE_DOWN[1]
        and roll <= _LARGEST_ROLL_DEGREES
    )
    return None if frontal else "face.look_at_camera"


def _focus(face: Image) -> str | None:
    """Judge sharpness: the second differences at half size, across or down (whichever moved), against the light."""
    half = cv2.resize(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    grey = half.astype(np.float32)
    sharpness = min(np.std(np.diff(grey, 2, axis)) for axis in (0, 1)) / np.median(grey)
    return "face.hold_still" if sharpness < _LEAST_SHARPNESS else None
