"""`python -m sim.simulate` is `govterm simulate`."""

import typer

from sim.simulate.cli import simulate

typer.run(simulate)
