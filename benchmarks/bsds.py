"""The table of BSDS500: classical rows, W-Net with and without post-processing, and controls.

    python benchmarks/bsds.py run --root PATH/TO/BSDS500 felzenszwalb edges
    python benchmarks/bsds.py run --root PATH/TO/BSDS500 --seed 0 wnet wnet+crf+ucm
    python benchmarks/bsds.py run --root PATH/TO/BSDS500 --first 20 kmeans_lab feature_clustering
    python benchmarks/bsds.py table [--first 20]

Scored on the official validation pictures, all 100 or the first of them by name, with the same ten
scales for every row. `wnet` and `iic` train their small configuration with --seed first, in RUNS,
unless that run is there; `untrained` is the encoder of that seed as it was initialised. "+crf",
"+ucm", "+crf+ucm" and "+crf+ucm+edges" are the post-processing. Each finished row is kept in
benchmarks/results; one that is there is not run again.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from segan import config, data, methods, scoring
from segan.checkpoint import FILE_NAME, save_segmenter
from segan.data.datasets.bsds500 import Bsds500, Bsds500Config
from segan.data.loading import Draws
from segan.evaluation.annotated import evaluate_annotated
from segan.evaluation.results import git_commit
from segan.evaluation.rows import Row
from segan.opening import open_segmenter, refined
from segan.runs import train
from segan.training.config import RunConfig

ROOT = Path(__file__).resolve().parent
CONFIGS = ROOT.parent / "configs"
LEARNED = {"wnet": "wnet/bsds500_small.yaml", "iic": "iic/bsds500_small.yaml"}
UNTRAINED = "untrained"
METRICS = ("covering_ods", "covering_ois", "pri_ods", "pri_ois", "vi_ods", "vi_ois")
NUM_LEVELS = 10
SEEDED = (*LEARNED, UNTRAINED)


def suite(first: int | None) -> Path:
    """Where rows are kept."""
    return ROOT / "results" / ("bsds500_val" if first is None else f"bsds500_val_first{first}")


def settings(name: str, root: Path, seed: int) -> RunConfig:
    """The run of a learned row."""
    tree = config.read_tree(CONFIGS / LEARNED[name])
    overrides = [f"data.root={root}", f"train.seed={seed}", "evaluation.split=none"]
    return config.build(RunConfig, config.override(tree, overrides))


def trained(name: str, root: Path, seed: int, runs: Path) -> Path:
    """The segmenter file of a learned row; a run that is there is finished, or refused."""
    out = runs / f"bsds500-{name}-{seed}"
    is_new = not (out / FILE_NAME).exists()
    started = time.perf_counter()
    train(settings(name, root, seed), out, trivial=False)
    if is_new:
        (out / "seconds.txt").write_text(f"{time.perf_counter() - started:.0f}\n")
    return out / FILE_NAME


def initialised(root: Path, seed: int, folder: Path) -> Path:
    """W-Net's encoder before training, in a file like any other.

    Its running means are those of training pictures, so that it differs in weights alone.
    """
    run = settings("wnet", root, seed)
    torch.manual_seed(seed)
    method = methods.build(run.method)
    dataset = data.build(run.data, "train")
    draws = Draws(dataset, method.view, method.view.units(dataset), seed)
    with torch.no_grad():
        for first in range(0, 40 * run.train.batch_size, run.train.batch_size):
            items = [draws[first + index].images for index in range(run.train.batch_size)]
            method.segmenter(torch.stack(items))
    path = folder / FILE_NAME
    tree = config.as_tree(run)["method"]
    save_segmenter(
        path,
        method.segmenter,
        network=tree["network"],
        num_regions=tree["num_regions"],
        window=None,
        scale=method.scale,
        provenance={"supervision": {"train": "none"}},
    )
    return path


def source(name: str, root: Path, seed: int, runs: Path) -> tuple[Row, float]:
    """A row, with its post-processing, and its scale."""
    base, _, how = name.partition("+")
    with tempfile.TemporaryDirectory() as folder:
        if base in LEARNED:
            opened = open_segmenter(str(trained(base, root, seed, runs)))
        elif base == UNTRAINED:
            opened = open_segmenter(str(initialised(root, seed, Path(folder))))
        else:
            opened = open_segmenter(base)
    row = scoring.row_of(opened)
    return (refined(row, how, scale=opened.scale), 1.0) if how else (row, opened.scale)


def run(names: list[str], root: Path, *, seed: int, first: int | None, runs: Path) -> None:
    """Score the rows that are missing."""
    dataset = Bsds500(Bsds500Config(root=root), "dev")
    for name in names:
        seeded = name.partition("+")[0] in SEEDED
        path = suite(first) / f"{name}-{seed}.json" if seeded else suite(first) / f"{name}.json"
        if path.exists():
            print(f"{path.name} is there")
            continue
        row, scale = source(name, root, seed, runs)
        started = time.perf_counter()
        found = evaluate_annotated(
            {name: row},
            dataset,
            kind="regions",
            split="dev",
            num_levels=NUM_LEVELS,
            scale=scale,
            limit=first,
            workers=1,
        )[name]
        seconds_file = runs / f"bsds500-{name.partition('+')[0]}-{seed}" / "seconds.txt"
        tree = {
            "row": name,
            "seed": seed if seeded else None,
            "config": LEARNED.get(name.partition("+")[0]),
            "segmenter_sha256": found.segmenter_sha256,
            "window_options": found.window_options,
            "metrics": {key: round(found.metrics[key], 4) for key in METRICS},
            "interval": [round(value, 4) for value in found.intervals["covering_ods"]],
            "num_images": found.num_images,
            "levels": NUM_LEVELS,
            "supervision": found.supervision,
            "postprocessing": found.postprocessing,
            "training_seconds": int(seconds_file.read_text()) if seconds_file.exists() else None,
            "seconds": round(time.perf_counter() - started),
            "threads": torch.get_num_threads(),
            "hardware": f"{os.cpu_count()} CPU cores",
            "torch": torch.__version__,
            "git_commit": git_commit(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree, indent=1) + "\n")
        print(f"{name}: covering ODS {tree['metrics']['covering_ods']}", flush=True)


def table(first: int | None) -> None:
    """All rows that are kept, the best covering first."""
    rows: dict[str, list[dict]] = {}
    for path in sorted(suite(first).glob("*.json")):
        found = json.loads(path.read_text())
        rows.setdefault(found["row"], []).append(found)
    print("| row | covering ODS / OIS | PRI ODS / OIS | VI ODS / OIS | by seed, covering ODS |")
    print("|---|---|---|---|---|")
    for name, found in sorted(rows.items(), key=lambda item: -mean(item[1], "covering_ods")):
        cells = [
            f"{mean(found, key + '_ods'):.3f} / {mean(found, key + '_ois'):.3f}"
            for key in ("covering", "pri", "vi")
        ]
        seeds = ", ".join(f"{row['metrics']['covering_ods']:.3f}" for row in found)
        print(f"| {name} | {' | '.join(cells)} | {seeds if len(found) > 1 else ''} |")


def mean(rows: list[dict], key: str) -> float:
    """Mean of a metric over seeds."""
    return statistics.mean(row["metrics"][key] for row in rows)


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    runner = verbs.add_parser("run")
    runner.add_argument("names", nargs="+")
    runner.add_argument("--root", type=Path, required=True)
    runner.add_argument("--seed", type=int, default=0)
    runner.add_argument("--runs", type=Path, default=Path("runs"))
    for verb in (runner, verbs.add_parser("table")):
        verb.add_argument("--first", type=int, help="only the first so many pictures")
    options = parser.parse_args()
    if options.verb == "table":
        table(options.first)
        return
    run(options.names, options.root, seed=options.seed, first=options.first, runs=options.runs)


if __name__ == "__main__":
    main()
