"""Pictures of how training fails, for docs/troubleshooting.md: each failure provoked on purpose.

    python benchmarks/failures.py [NAME ...]

Each is the shapes world with some settings made wrong, about five minutes on one core. The warning
of the run's monitor, where it gives one, is printed, and a strip of the last panel is written to
docs/images/failures.
"""

import argparse
import tempfile
from pathlib import Path

import cv2

from segan import config, runs
from segan.errors import DivergenceError
from segan.training.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "images" / "failures"
SHAPES = ROOT / "configs" / "cut_paste" / "shapes.yaml"
COLUMNS, TILE, GAP = 8, 96, 2
QUALITY = 70

# The settings that are wrong.
FAILURES: dict[str, list[str]] = {
    "everything": ["method.context=1.05", "method.weights.area=0", "method.weights.empty=0"],
    "nothing": ["data.level=hard", "method.weights.cut=0"],
    "ground": ["method.guards.jitter=0", "method.weights.area=0"],
}
STEPS = 160


def provoke(name: str) -> None:
    """Train one failure, and keep a strip of what it looks like."""
    common = [
        f"train.images={32 * STEPS}",
        "train.checkpoint_every=0",
        "train.snapshots=0",
        "evaluation.split=none",
        "data.train_images=400",
    ]
    tree = config.override(config.read_tree(SHAPES), [*FAILURES[name], *common])
    with tempfile.TemporaryDirectory() as folder:
        try:
            runs.train(config.build(RunConfig, tree), Path(folder), trivial=False)
        except DivergenceError as error:
            print(f"{name}: {error}")
        last = sorted((Path(folder) / "samples").glob("*.png"))[-1]
        panel = cv2.imread(str(last))
    strip = panel[:, : COLUMNS * (TILE + GAP) - GAP]
    PICTURES.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(PICTURES / f"{name}.jpg"), strip, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def main() -> None:
    """Provoke the failures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAILURES)}")
    names = parser.parse_args().names or list(FAILURES)
    if unknown := [name for name in names if name not in FAILURES]:
        parser.error(f"no failure {unknown[0]!r}; of {', '.join(FAILURES)}")
    for name in names:
        provoke(name)


if __name__ == "__main__":
    main()
