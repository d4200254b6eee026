"""Describe an aligned face with the recogniser: numbers of unit length whose cosine tells who is alike."""

import numpy as np

from vision.models import Floats, Image, Network


def embed(network: Network, aligned: Image) -> Floats:
    """Return the unit embedding of a 112x112 face, 128 numbers by SFace: the mean of its own and its mirror image's."""
    pixels = network.entry.pixels
    planes = (aligned if pixels.order == "bgr" else aligned[:, :, ::-1]).transpose(2, 0, 1)
    batch = np.stack([planes, planes[:, :, ::-1]]).astype(np.float32)
    batch -= pixels.mean
    batch *= pixels.scale
    own, mirrored = pair = next(iter(network.run(batch).values()))
    batch.fill(0)
    embedding = unit(unit(own) + unit(mirrored))
    pair.fill(0)
    return embedding


def unit(vector: Floats) -> Floats:
    """Bring the vector to length 1 and return it; a zero vector stays zero, so that it resembles nobody.

    In place: what numpy frees below 1 KiB it keeps for itself, as it was, so a copy would outlive its use (T20).
    """
    vector /= max(float(np.linalg.norm(vector)), 1e-12)
    return vector
