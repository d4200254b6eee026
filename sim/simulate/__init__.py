"""Deterministic simulation: lives of a terminal on a virtual clock, among citizens and faults that a seed gives."""
