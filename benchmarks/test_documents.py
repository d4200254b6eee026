"""Pages found and scanned, beside the usual recipe: edges, contours, the largest four-cornered one (T2)."""

import os
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.conftest import Figures, percentile
from sim import assets
from sim.desk import photograph
from sim.paper import draw
from sim.scan_sweep import MOST_CORNER_ERROR, run, trials
from vision.models import Floats, Image

CACHE = Path(os.environ.get("GOVTERM_CACHE", Path(__file__).parents[1] / ".cache" / "govterm"))
PHOTOGRAPHS = 90


def contour_recipe(picture: Image) -> Floats | None:
    small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (5, 5), 0)
    edges = cv2.dilate(cv2.Canny(grey, 75, 200), np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(edges, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    for contour in sorted(contours, key=cv2.contourArea, reverse=True)[:5]:
        corners = cv2.approxPolyDP(contour, 0.02 * cv2.arcLength(contour, True), True)
        if len(corners) == 4:
            found: Floats = corners.reshape(4, 2).astype(np.float32) * 4
            return found
    return None


def near(found: Floats | None, corners: Floats) -> bool:
    if found is None:
        return False
    diagonal = float(np.linalg.norm(corners[0] - corners[2]))
    rings = [np.roll(ring, turn, axis=0) for ring in (found, found[::-1]) for turn in range(4)]
    error = min(float(np.linalg.norm(ring - corners, axis=1).max()) for ring in rings)
    return error <= MOST_CORNER_ERROR * diagonal


def test_scanning(figures: Figures) -> None:
    font = assets.prepare(CACHE / "assets").font
    cv2.setNumThreads(1)
    sweep = run(trials(PHOTOGRAPHS, 21), font)
    seconds = [outcome.seconds for outcome in sweep.good()]
    recipe_seconds, recipe_near = [], 0
    for outcome in sweep.good():
        kind, number = outcome.trial.page
        taken = photograph(draw(kind, font, number), outcome.trial.conditions, outcome.trial.seed)
        begun = time.process_time()
        found = contour_recipe(taken.picture)
        recipe_seconds.append(time.process_time() - begun)
        recipe_near += near(found, taken.corners)
    right = sum(outcome.success for outcome in sweep.good())
    wrongly_taken = sum(not outcome.success for outcome in sweep.bad())
    figures.add(
        "good photographs scanned right",
        f"{right} of {len(sweep.good())}",
        beside=f"contour recipe, corners alone: {recipe_near}",
        verdict="goal: 98 %",
    )
    figures.add("bad photographs taken", f"{wrongly_taken} of {len(sweep.bad())}", beside="goal: none")
    figures.add(
        "scan of a page, CPU p50/p95",
        f"{percentile(seconds, 50):.2f}/{percentile(seconds, 95):.2f} s",
        beside=f"contour recipe, finding alone: {percentile(recipe_seconds, 50):.2f} s",
        verdict="goal: 1 s",
    )
    assert right >= 0.95 * len(sweep.good())
    assert wrongly_taken <= 0.05 * len(sweep.bad())
