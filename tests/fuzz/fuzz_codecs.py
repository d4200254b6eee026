"""Coverage-guided fuzzing of one codec: python -m tests.fuzz.fuzz_codecs NAME [libFuzzer's options].

A failure leaves its input as a file; the same command with that file as its only option shows it again.
"""

import sys

import atheris

with atheris.instrument_imports(include=["devices"]):
    from tests.fuzz.codecs import TARGETS


def main() -> None:
    """Fuzz the target that the first argument names."""
    program, name, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
