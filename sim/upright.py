"""Train the network that tells which way up a page lies: `python -m sim.upright FONT... --output vision/upright.npz`.

The fonts must have Chinese and Latin letters, or Latin ones alone. The same fonts give the same network.
"""

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from sim.paper import DOTS_PER_MM, Kind, draw
from vision.models import Floats
from vision.upright import PATCH, SEEN_DPI, log_shares, pieces, scores

_KINDS: tuple[Kind, ...] = ("letter", "notice", "form", "certificate", "landscape")
_SHARPNESS = (0.5, 1.6)
_HIDDEN, _EPOCHS, _BATCH, _RATE, _DECAY = 48, 14, 512, 2e-3, 1e-4


def examples(font: Path, pages: int, seed: int, *, latin_only: bool = False) -> Floats:
    """Return the pieces of drawn pages, blurred and noisy as a camera leaves them, upright."""
    random = np.random.default_rng(seed)
    seen = []
    for number in range(pages):
        kind = "letter" if latin_only else _KINDS[number % len(_KINDS)]
        grey = cv2.cvtColor(draw(kind, font, seed + number), cv2.COLOR_BGR2GRAY)
        taken = float(random.uniform(110, 190)) / (DOTS_PER_MM * 25.4)
        small = cv2.resize(grey, None, fx=taken, fy=taken, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), float(random.uniform(*_SHARPNESS)) * 0.6)
        noisy = small * random.uniform(0.5, 1) + random.normal(0, random.uniform(0.5, 5), small.shape)
        back = SEEN_DPI / (DOTS_PER_MM * 25.4) / taken
        page = cv2.resize(noisy.clip(0, 255).astype(np.uint8), None, fx=back, fy=back, interpolation=cv2.INTER_LINEAR)
        turns = int(random.integers(4))  # or the sampling grid would tell the network which way is up
        seen.append(np.rot90(pieces(np.ascontiguousarray(np.rot90(page, turns))), -turns, axes=(1, 2)))
    return np.concatenate(seen)


def train(patches: Floats, seed: int = 0) -> dict[str, Floats]:
    """Return weights under which the upright one of a patch's four turns scores highest (Adam, cross entropy)."""
    random = np.random.default_rng(seed)
    shapes = {"inner": (PATCH * PATCH, _HIDDEN), "inner_bias": (_HIDDEN,), "outer": (_HIDDEN, 1)}
    weights = {name: random.normal(0, shape[0] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in weights.items()}
    step = 0
    for epoch in range(_EPOCHS):
        rate = _RATE * (1 - epoch / _EPOCHS)
        for batch in np.array_split(random.permutation(len(patches)), max(1, len(patches) // _BATCH)):
            step += 1
            for name, gradient in _gradients(patches[batch], weights).items():
                first, second = moments[name]
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                lean = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
                weights[name] -= (rate * (lean + _DECAY * weights[name])).astype(np.float32)
    return weights


def _gradients(patches: Floats, weights: dict[str, Floats]) -> dict[str, Floats]:
    said = np.exp(log_shares(scores(patches, weights["inner"], weights["inner_bias"], weights["outer"])))
    said[:, 0] -= 1
    turned = np.stack([np.rot90(patches, -turns, axes=(1, 2)) for turns in range(4)], axis=1)
    flat = turned.reshape(-1, PATCH * PATCH) - np.float32(0.3)
    hidden = np.maximum(flat @ weights["inner"] + weights["inner_bias"], 0)
    error = said.reshape(-1, 1) / len(patches)
    back = (error @ weights["outer"].T) * (hidden > 0)
    return {"inner": flat.T @ back, "inner_bias": back.sum(axis=0), "outer": hidden.T @ error}


def main(
    fonts: Annotated[list[Path], typer.Argument(help="Fonts with Chinese letters.")],
    output: Annotated[Path, typer.Option(help="Where to write the weights.")],
    latin: Annotated[list[Path] | None, typer.Option(help="Fonts without Chinese letters.")] = None,
    pages: Annotated[int, typer.Option(help="Pages a font.")] = 60,
) -> None:
    """Train on drawn pages and write the weights."""
    patches = np.concatenate(
        [examples(font, pages, 1000 * number) for number, font in enumerate(fonts)]
        + [examples(font, pages // 3, 5000 + 1000 * number, latin_only=True) for number, font in enumerate(latin or [])]
    )
    weights = train(patches)
    small = {name: value.astype(np.float16) for name, value in weights.items()}
    np.savez_compressed(output, inner=small["inner"], inner_bias=small["inner_bias"], outer=small["outer"])
    typer.echo(f"{len(patches)} pieces")


if __name__ == "__main__":
    typer.run(main)
