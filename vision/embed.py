"""Describe an aligned face with SFace: 128 numbers of unit length whose cosine tells who is alike."""

import numpy as np

from vision.models import Floats, Image, Network


def embed(network: Network, aligned: Image) -> Floats:
    """Return the unit embedding (128,) of a 112x112 face: the mean of the face's own and its mirror image's."""
    rgb = aligned[:, :, ::-1].transpose(2, 0, 1)
    batch = np.stack([rgb, rgb[:, :, ::-1]]).astype(np.float32)
    own, mirrored = pair = network.run(batch)["fc1"]
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
