"""Find the one face of a card's photo (T9).

The photo is 102x126 pixels out of about 1 KB: its face is aligned from those pixels as they are (docs/face-check.md).
"""

import cv2
import numpy as np

from vision.align import TEMPLATE, similarity
from vision.detect import SCORE_THRESHOLD, Face, detect
from vision.errors import VisionError
from vision.models import Image, Network
from vision.quality import usable

_LEAST_SCORE = 0.5
_PADDED = 0.5
"""On a second look so much of the photo is put around it: the detector then sees a smaller head, with room."""

_LARGEST_MISFIT = 0.25
"""Of a face's points from where a frontal face has them, root mean square in distances between the eyes."""

_ADVICE = "read the card again; if it stays so, the citizen goes to the counter"


def reference_face(detector: Network, photo: Image) -> Face:
    """Return the face of a card's photo; VisionError `photo.no_face`, `photo.many_faces`, `picture.unusable`.

    A photo whose codec left too little for the detector is looked at again: padded, and then with a lower score, which
    is safe where a single upright face is known to be. Such a face has to lie as a frontal one does, and a wrong one
    could only make its owner unlike: the threshold is the same.
    """
    seen = detect(detector, photo)
    faces = usable(seen) or usable(seen, least_score=SCORE_THRESHOLD) or _second_look(detector, photo)
    if len(faces) != 1:
        code = "photo.many_faces" if faces else "photo.no_face"
        raise VisionError(code, f"{len(faces)} faces in the card's photo", advice=_ADVICE, retry=False)
    return faces[0]


def _second_look(detector: Network, photo: Image) -> list[Face]:
    """Return the surest face that a padded or a less demanding look finds, as a list of at most one."""
    down, across = (round(_PADDED * side / 2) for side in photo.shape[:2])
    padded = cv2.copyMakeBorder(photo, down, down, across, across, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    corner = np.array([across, down], np.float32)
    try:
        inside = [
            Face(np.hstack([face.box[:2] - corner, face.box[2:]]), face.landmarks - corner, face.score)
            for face in detect(detector, padded, least_score=_LEAST_SCORE)
        ]
    finally:
        padded.fill(0)
    found = inside + detect(detector, photo, least_score=_LEAST_SCORE)
    likely = [face for face in found if _misfit(face) <= _LARGEST_MISFIT]
    return sorted(likely, key=lambda face: -face.score)[:1]


def _misfit(face: Face) -> float:
    if face.eye_distance < 1:
        return float("inf")
    to_photo = similarity(TEMPLATE, face.landmarks)
    off = TEMPLATE @ to_photo[:, :2].T + to_photo[:, 2] - face.landmarks
    return float(np.sqrt(np.mean(np.sum(off**2, axis=1)))) / face.eye_distance
