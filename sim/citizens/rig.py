"""`python -m sim.citizens.rig --config FILE`: `govterm rig` as a process of its own."""

from sim.cli import rig

if __name__ == "__main__":
    rig()
