"""Crash-point enumeration: the daemon stops at every write, message and effect of a run, and the rest is examined."""
