"""The identity step end to end over 50 runs, split by stage, beside the 5 s of T13."""

import asyncio
from collections import defaultdict
from pathlib import Path

from benchmarks.conftest import Figures, percentile, within
from benchmarks.rig import consenting, terminal_on_rig

RUNS = 50
LIMIT_SECONDS = 5.0


def test_identity_step(figures: Figures, tmp_path: Path) -> None:
    stages: dict[str, list[float]] = defaultdict(list)

    async def serve() -> None:
        async with terminal_on_rig(tmp_path / "rig") as (rig, terminal, _pid):
            await rig.do("camera", "show", person="grace_hopper")
            for _ in range(RUNS):
                session = await consenting(terminal)
                await rig.do("idcard", "place_card")
                result = await terminal.call("session.verify_identity", session=session)
                assert result["outcome"] == "done", result
                await terminal.call("session.close", session=session)
                await rig.do("idcard", "remove_card")
                await terminal.wait_until("session", "none")
                stages["identity, end to end"].append(result["seconds"])
                for step in result["steps"]:
                    stages[f"  step {step['step']}"].append(step["seconds"])
                for stage, seconds in result["face"]["stages"].items():
                    stages[f"    stage {stage}"].append(seconds)

    asyncio.run(serve())
    for stage, seconds in stages.items():
        p50, p95 = percentile(seconds, 50), percentile(seconds, 95)
        ours = f"p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms"
        figures.add(stage, ours, beside=f"T13 limit {LIMIT_SECONDS:.0f} s", verdict=within(p95, LIMIT_SECONDS))
    assert len(stages["identity, end to end"]) == RUNS
