"""How long training-free partitions take, and their label maps, kept to be scored.

    python benchmarks/partitions.py PICTURE_FOLDER --limit 5
    python benchmarks/partitions.py PICTURE_FOLDER felzenszwalb slic_rag --keep partitions

One thread; seconds are of the CPU, so that a busy machine matters less. With --keep, the levels of
each picture are kept as uint16 [L, H, W] in KEEP/ROW/PICTURE.npz, under the name "levels".
"""

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from segan.data.images import find_images, read_image
from segan.methods.feature_clustering import FeatureClustering
from segan.methods.partitions import PARTITION_ROWS
from segan.segmenter import PartitionSegmenter

ROWS = {**PARTITION_ROWS, "feature_clustering": FeatureClustering}


def measure(
    segmenter: PartitionSegmenter, picture: Tensor, *, num_levels: int
) -> tuple[list[Tensor], float]:
    """Levels of a picture uint8 [3, H, W], and the seconds they took."""
    start = time.process_time()
    levels = segmenter.partitions(picture.float() / 255, num_levels=num_levels)
    return levels, time.process_time() - start


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", nargs="*", default=list(PARTITION_ROWS), help=", ".join(ROWS))
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly spread")
    parser.add_argument("--levels", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="folder for the label maps")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    paths = sorted(find_images(options.folder))
    paths = paths[:: max(len(paths) // (options.limit or len(paths)), 1)][: options.limit]
    print(f"| row | seconds per picture, {options.levels} levels | regions, coarse to fine |")
    print("|---|---|---|")
    for name in options.rows:
        seconds, counts = [], []
        for path in paths:
            levels, taken = measure(ROWS[name](), read_image(path), num_levels=options.levels)
            seconds.append(taken)
            counts.append([int(level.max()) + 1 for level in levels])
            if options.keep:
                stack = torch.stack(levels).numpy().astype(np.uint16)
                file = options.keep / name / f"{path.stem}.npz"
                file.parent.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(file, levels=stack)
        regions = np.median(counts, axis=0).astype(int).tolist()
        print(f"| {name} | {statistics.mean(seconds):.2f} | {regions} |", flush=True)


if __name__ == "__main__":
    main()
