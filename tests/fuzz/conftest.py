"""The fuzzer exists for some Pythons and machines only (pyproject.toml says which); elsewhere Hypothesis is alone."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("atheris") else ["test_fuzz.py"]
