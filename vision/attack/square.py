"""A square piece of a frame as a network takes it."""

import numpy as np

from vision.models import Floats, Image, Network


def run(network: Network, square: Image) -> dict[str, Floats]:
    """Run the network on one picture (BGR) of its size, its pixels as the manifest says; the outputs by name."""
    pixels = network.entry.pixels
    planes = (square if pixels.order == "bgr" else square[:, :, ::-1]).transpose(2, 0, 1)
    batch = np.ascontiguousarray(planes[None], np.float32)
    batch -= pixels.mean
    batch *= pixels.scale
    outputs = network.run(batch)
    batch.fill(0)
    return outputs
