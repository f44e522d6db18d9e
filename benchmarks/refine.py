"""Do the steps after the network help, how much, and at what cost?

    python benchmarks/refine.py run otsu --data wbc --root PATH/TO/segmentation_WBC
    python benchmarks/refine.py run SEGMENTER --data dsb2018 --root PATH/TO/DSB2018 --set look=dark
    python benchmarks/refine.py table

Whole pictures of a split are segmented once, and scored as they are and after each refinement;
labels are looked at to score, never to refine. Scores are means over pictures; the change is that
of the mean IoU, with a 95 % interval from resampling pictures. Seconds are of one CPU core, per
megapixel. A row is kept in benchmarks/results/refine/.
"""

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from segan import config, data
from segan.arrays import pictures
from segan.config import settings
from segan.data import DataConfig
from segan.evaluation import metrics
from segan.evaluation.cases import Cases, cases_of
from segan.evaluation.results import git_commit
from segan.opening import open_segmenter
from segan.predicting.engines import MaskEngine
from segan.refining import FLIPS, compose

RESULTS = Path(__file__).resolve().parent / "results" / "refine"
CHAINS = ("", "clean", "guided", "grabcut", "crf", "flips", "guided clean")


@settings
class _Scored:
    data: DataConfig


def dataset_of(options: argparse.Namespace) -> data.Dataset:
    """The split of a data set that the arguments name."""
    tree = config.override({"type": options.data, "root": options.root}, options.set)
    return data.build(config.build(_Scored, {"data": tree}).data, options.split)


def score(options: argparse.Namespace) -> dict[str, object]:
    """Every chain on every picture."""
    opened = open_segmenter(options.segmenter)
    # Also of segmenters that want a box: GrabCut then starts from a rim of the picture.
    engines = {flips: MaskEngine(opened, flips=flips, tile=None) for flips in (False, True)}
    ious: defaultdict[str, list[float]] = defaultdict(list)
    boundaries: defaultdict[str, list[float]] = defaultdict(list)
    seconds: defaultdict[str, float] = defaultdict(float)
    megapixels = 0.0
    chains = [chain for chain in CHAINS if chain in options.chains.split(",") or not chain]
    for case in cases_of(dataset_of(options), Cases(scale=1.0, limit=options.limit)):
        picture = pictures(case.image[None])[0]
        tensor = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
        megapixels += picture.shape[0] * picture.shape[1] / 1e6
        soft = {}
        for flips, engine in engines.items():
            start = time.thread_time()
            values = engine.segment([engine.prepare(tensor)], None)[0]
            soft[flips] = engine.finish(values, case.truth.shape).numpy()
            seconds["segmenter"] += time.thread_time() - start if not flips else 0.0
            seconds[FLIPS] += time.thread_time() - start if flips else 0.0
        for chain in chains:
            steps = chain.split()
            start = time.thread_time()
            mask = compose(steps)(picture, soft[FLIPS in steps]) > 0.5
            seconds[chain] += time.thread_time() - start
            pixels = ... if case.valid is None else case.valid
            ious[chain].append(metrics.iou(mask[pixels], case.truth[pixels]))
            outline = mask if case.valid is None else np.where(case.valid, mask, case.truth)
            boundaries[chain].append(metrics.boundary_iou(outline, case.truth))
        print(case.picture, {name: round(each[-1], 3) for name, each in ious.items()}, flush=True)
    seconds[FLIPS] -= seconds["segmenter"]
    return {
        "dataset": options.data,
        "set": options.set,
        "split": options.split,
        "segmenter": opened.label,
        "num_images": len(ious[""]),
        "segmenter_seconds_per_megapixel": round(seconds["segmenter"] / megapixels, 2),
        "rows": {
            chain or "none": {
                "iou": round(float(np.mean(ious[chain])), 4),
                "boundary_iou": round(float(np.mean(boundaries[chain])), 4),
                "change": change(ious[chain], ious[""]),
                "seconds_per_megapixel": round(seconds[chain] / megapixels, 3),
            }
            for chain in chains
        },
    }


def change(after: list[float], before: list[float]) -> list[float]:
    """Mean difference of IoU, and its 95 % interval over resampled pictures."""
    differences = np.subtract(after, before)
    draws = np.random.default_rng(0).integers(0, len(differences), (2000, len(differences)))
    low, high = np.percentile(differences[draws].mean(1), [2.5, 97.5])
    return [round(float(value), 4) for value in (differences.mean(), low, high)]


def table() -> None:
    """All rows kept, as Markdown."""
    print("| first stage | set | refinement | IoU | change | boundary IoU | s / megapixel |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(RESULTS.glob("*.json")):
        row = json.loads(path.read_text())
        place = f"{row['dataset']} {' '.join(row['set'])}".strip()
        for name, found in row["rows"].items():
            mean, low, high = found["change"]
            shown = "" if name == "none" else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            cost = "" if name == "none" else f"{found['seconds_per_megapixel']:.2f}"
            print(
                f"| {row['segmenter']} | {place}, {row['split']}, {row['num_images']} pictures "
                f"| {name} | {found['iou']:.3f} | {shown} | {found['boundary_iou']:.3f} | {cost} |"
            )


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("segmenter")
    run.add_argument("--data", required=True)
    run.add_argument("--root", required=True)
    run.add_argument("--set", action="append", default=[])
    run.add_argument("--split", default="dev")
    run.add_argument("--limit", type=int)
    run.add_argument("--chains", default=",".join(CHAINS), help="comma-separated")
    run.add_argument("--keep", metavar="NAME", help="keep the row under this name")
    verbs.add_parser("table")
    options = parser.parse_args()
    if options.verb == "table":
        table()
        return
    start = time.perf_counter()
    row = score(options) | {
        "seconds": round(time.perf_counter() - start),
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads",
        "git_commit": git_commit(),
    }
    text = json.dumps(row, indent=1)
    print(text)
    if options.keep:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{options.keep}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
