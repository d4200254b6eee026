"""One page of an evaluation, complete in itself: figures, and the DET curve as a drawing."""

import io
from typing import TYPE_CHECKING

import jinja2
import markupsafe
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from vision.evaluation.comparisons import BINS
from vision.evaluation.evaluate import Evaluation, as_json

if TYPE_CHECKING:
    import numpy.typing as npt

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Face check: {{ name }}</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid #ddd }
td { font-variant-numeric: tabular-nums }
svg { max-width: 100%; height: auto }
</style>
<h1>Face check: {{ name }}</h1>
<p>{{ said.people }} people, {{ pictures }} pictures; reference: {{ said.reference }}; frames: {{ said.frames }}.
Model {{ said.model }}. Operating point {{ point }}, cosine {{ said.threshold }}: fixed in the manifest beforehand
({{ threshold.data }}, {{ threshold.date }}).</p>
<table>
<tr><th><th>comparisons<th>errors<th>rate<th>95 % of independent pairs<th>95 % over people
{% for label, row, errors in rows -%}
<tr><th>{{ label }}<td>{{ row.pairs }}<td>{{ errors }}<td>{{ rate(row.rate) }}
<td>{{ rate(row.interval[0]) }} to {{ rate(row.interval[1]) }}
<td>{{ rate(row.bootstrap[0]) }} to {{ rate(row.bootstrap[1]) }}
{% endfor -%}
</table>
<p>One-sided upper 95 % bound of the false-match rate: {{ rate(said.fmr.upper95) }};
with one picture a person: {{ rate(said.fmr_one_per_identity.upper95) }}.
Comparisons that share a person are not independent: the interval over people (bootstrap) knows it, but says nothing
when no error was seen.</p>
<h2>Failures to acquire</h2>
<p>{{ said.failure_to_acquire.failures }} of {{ pictures }} pictures
({{ rate(said.failure_to_acquire.rate) }}){% for reason, count in said.failure_to_acquire.reasons.items() %};
{{ reason }}: {{ count }}{% endfor %}. In the generalised rate a pair that was not acquired is a miss.
Left out, because the person has too few pictures: {{ said.left_out.genuine_pairs }} genuine pairs,
{{ said.left_out.probes }} probes.</p>
<h2>Detection error trade-off</h2>
{{ drawing }}
<h2>Highest impostor scores</h2>
<p>{{ said.worst_impostor_scores | join(", ") }}</p>
<h2>Milliseconds</h2>
<table>{% for stage, spent in said.milliseconds.items() %}<tr><th>{{ stage }}<td>{{ spent }}{% endfor %}</table>
<p>Processor time, the mean over the pictures; all comparisons together.</p>
</html>
"""


def render(evaluation: Evaluation, *, name: str) -> str:
    """Return the page (HTML); `name` is the measured set's."""
    said = as_json(evaluation)
    rows = [
        ("false matches", said["fmr"], said["fmr"]["matches"]),
        ("one picture a person", said["fmr_one_per_identity"], said["fmr_one_per_identity"]["matches"]),
        ("false non-matches", said["fnmr"], said["fnmr"]["misses"]),
        ("generalised", said["fnmr_generalised"], said["fnmr_generalised"]["misses"]),
    ]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    return template.render(
        name=name,
        said=said,
        rows=rows,
        pictures=evaluation.pictures,
        point=evaluation.task.operating_point,
        threshold=evaluation.threshold,
        drawing=markupsafe.Markup(draw_det(evaluation)),  # noqa: S704  our own drawing
        rate=_written,
    )


def det_curve(evaluation: Evaluation) -> tuple["npt.NDArray[np.float64]", "npt.NDArray[np.float64]"]:
    """Return false-match and false non-match rates at each threshold of `BINS`, from the lowest threshold."""
    histogram = evaluation.impostors.histogram
    fmr = np.cumsum(histogram[::-1])[::-1] / max(1, histogram.sum())
    edges = np.linspace(-1, 1, BINS, endpoint=False)
    scores = np.sort(evaluation.genuine.scores)
    return fmr, np.searchsorted(scores, edges) / max(1, len(scores))


def draw_det(evaluation: Evaluation) -> str:
    """Return the curve as an SVG element, both axes logarithmic, the operating point marked."""
    fmr, fnmr = det_curve(evaluation)
    matched, missed = evaluation.impostors.rate, evaluation.missed
    with mpl.rc_context({"svg.hashsalt": "govterm", "svg.fonttype": "path"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        # Rates that were never seen have no place on these axes: the curve ends at one error.
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(0.5 / max(1, matched.trials), 1)
        axes.set_ylim(0.5 / max(1, missed.trials), 1)
        axes.set_xlabel("false-match rate")
        axes.set_ylabel("false non-match rate")
        axes.grid(visible=True, alpha=0.3)
        seen = (fmr > 0) & (fnmr > 0)
        axes.plot(fmr[seen], fnmr[seen], color="#1f4e79")
        axes.axvline(float(evaluation.task.operating_point), color="#999", linestyle=":")
        if matched.rate and missed.rate:
            axes.plot(matched.rate, missed.rate, "o", color="#b03a2e", label=f"cosine {evaluation.threshold.cosine}")
            axes.legend()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    drawing = stream.getvalue()
    return drawing[drawing.index("<svg") :]


def _written(rate: float | None) -> str:
    if rate is None:
        return "unknown"
    return f"{rate:.3g}" if rate and rate < 1e-3 else f"{100 * rate:.3g} %"
