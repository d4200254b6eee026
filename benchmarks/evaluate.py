"""The face check's error on every set of pictures in a folder: `make evaluate`, figures in docs/biometrics.md.

A set is a folder with `images.tsv` (identity, tab, path), or one of official portraits: a folder a year, file names
that identify, and `genuine_distinct_photo.txt`, the people whose photos of two years differ.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

GOVTERM = Path(sys.executable).with_name("govterm")
FRAMES = (1, 2, 3)
IMPOSTORS_ONLY = ("cjk",)
"""Sets some of whose labels are wrong within an identity."""


def portraits(folder: Path, temporary: Path) -> tuple[Path, Path]:
    """Write the list of the pictures and that of the genuine pairs, the oldest photo as the reference."""
    years = sorted(year for year in folder.iterdir() if year.is_dir())
    pictures = [path for year in years for path in sorted(year.glob("*.jpg"))]
    listing, pairs = temporary / f"{folder.name}.tsv", temporary / f"{folder.name}-genuine.tsv"
    listing.write_text("".join(f"{path.stem}\t{path.relative_to(folder)}\n" for path in pictures))
    distinct = (folder / "genuine_distinct_photo.txt").read_text().split()
    pairs.write_text("".join(f"{years[0].name}/{one}.jpg\t{years[-1].name}/{one}.jpg\n" for one in distinct))
    return listing, pairs


def sets(data: Path, temporary: Path) -> Iterator[tuple[Path, Path, Path | None]]:
    """Yield the root, the list and the genuine pairs (None: all within an identity) of each set."""
    none = temporary / "none.tsv"
    none.touch()
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        if (folder / "images.tsv").exists():
            yield folder, folder / "images.tsv", none if folder.name.startswith(IMPOSTORS_ONLY) else None
        elif (folder / "genuine_distinct_photo.txt").exists():
            yield folder, *portraits(folder, temporary)


def main() -> None:
    """Measure every set at each number of frames and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of the sets", default="")
    parser.add_argument("--models", help="where the models lie", required=True)
    asked = parser.parse_args()
    if not asked.data or not Path(asked.data).is_dir():
        sys.exit("evaluate: set GOVTERM_FACE_DATA to a folder of pictures; they are not part of the repository")
    with tempfile.TemporaryDirectory() as temporary:
        for root, listing, genuine in sets(Path(asked.data), Path(temporary)):
            for frames in FRAMES:
                print(f"== {root.name}, {frames} frames", flush=True)
                command = [GOVTERM, "face", "evaluate", "--images", listing, "--root", root, "--models", asked.models]
                command += ["--frames", str(frames), *(["--genuine", genuine] if genuine else [])]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
