"""Benchmarks: each prints its figures beside a peer's or the limit's, from the same run."""
