"""Which guard earns its place: cut-and-paste with one setting changed at a time, on dev.

    python benchmarks/ablation.py                      run what is missing, print the table
    python benchmarks/ablation.py --table              only print the table
    python benchmarks/ablation.py --shard 0/2          every second row; start 1/2 beside it

Each finished row is kept in benchmarks/results/<suite>/; delete a file to run it anew. Next to the
dev IoU, which needs labels, every row has the label-free scores of segan.evaluation.label_free,
measured on unlabeled training windows; the table ends with their rank correlation to the IoU.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import default_collate

from segan import config, data, runs
from segan.checkpoint import FILE_NAME, load_segmenter
from segan.data.loading import Draws
from segan.data.views import CutPasteView
from segan.errors import DivergenceError
from segan.evaluation import label_free
from segan.evaluation.results import git_commit
from segan.training.config import RunConfig

ROOT = Path(__file__).resolve().parent
BASE = ROOT.parent / "configs" / "cut_paste" / "shapes.yaml"
SUITE = "cut_paste_ablation"
IMAGES = 6400
SEEDS = (0,)

# The most telling first, so that a table cut short still says something.
ROWS: dict[str, list[str]] = {
    "default": [],
    "no cut loss": ["method.weights.cut=0"],
    "no empty loss": ["method.weights.empty=0"],
    "no jitter": ["method.guards.jitter=0"],
    "no mean area": ["method.weights.area=0"],
    "neighbours shown": ["method.neighbours=show"],
    "inputs not standardised": ["method.network.inputs=range", "method.discriminator.inputs=range"],
    "group norm": ["method.network.norm=group"],
    "presence loss 0.5": ["method.weights.presence=0.5"],
    "blur 1 px": ["method.guards.blur=1"],
    "grounded fakes": ["method.guards.grounded=true"],
    "binarity 0.5": ["method.weights.binarity=0.5"],
    "patch discriminator": ["method.discriminator.type=patch"],
    "area floor 0.3": ["method.weights.area_floor=5", "method.guards.floor=0.3"],
    "area ceiling 0.8": ["method.weights.area_ceiling=5", "method.guards.ceiling=0.8"],
    "border 3 px": ["method.guards.border=3"],
    "relativistic": ["method.adversarial=relativistic"],
    "least squares": ["method.adversarial=least_squares"],
    "hinge": ["method.adversarial=hinge"],
    "scanline": ["method.placement=scanline"],
    "feather 0.7 px": ["method.guards.feather=0.7"],
    "neighbours hidden": ["method.neighbours=hide"],
    "no R1": ["method.weights.r1=0"],
}


def run_row(name: str, seed: int) -> dict[str, object]:
    """Train and score one row; the result is what its file holds."""
    overrides = [
        *ROWS[name],
        f"train.seed={seed}",
        f"train.images={IMAGES}",
        "train.checkpoint_every=0",
        "evaluation.split=dev",
        "evaluation.limit=100",
    ]
    run = config.build(RunConfig, config.override(config.read_tree(BASE), overrides))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            results = runs.train(run, Path(folder), trivial=False)
        except DivergenceError as error:
            return {"row": name, "seed": seed, "error": str(error)}
        loaded = load_segmenter(Path(folder) / FILE_NAME)
    seconds = time.perf_counter() - started
    whole = results["whole pictures: segan"].metrics
    return {
        "row": name,
        "seed": seed,
        "overrides": ROWS[name],
        "images": IMAGES,
        "split": "dev",
        "iou": results["segan"].metrics["iou"],
        "boundary_iou": results["segan"].metrics["boundary_iou"],
        "iou_whole": whole["iou"],
        "label_free": label_free_scores(loaded.segmenter, run),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "git_commit": git_commit(),
    }


def label_free_scores(segmenter: torch.nn.Module, run: RunConfig) -> dict[str, float]:
    """The candidate scores on 256 unlabeled training windows."""
    dataset = data.build(run.data, "train")
    view = CutPasteView(load_spec(run), "uniform", neighbours="avoid")
    draws = Draws(dataset, view, view.units(dataset), seed=7)
    batch = default_collate([draws[i] for i in range(256)])
    return {
        name: score(segmenter, batch.objects, batch.boxes)
        for name, score in label_free.SCORES.items()
    }


def load_spec(run: RunConfig) -> runs.WindowSpec:
    """The windows of a run."""
    return runs.WindowSpec(
        size=run.method.size, context=run.method.context, square=run.method.square
    )


def file_of(name: str, seed: int) -> Path:
    """Where a finished row is kept."""
    return ROOT / "results" / SUITE / f"{name.replace(' ', '-')}-{seed}.json"


def print_table() -> None:
    """The table of all finished rows, and the rank correlations."""
    rows = [
        json.loads(file_of(name, seed).read_text())
        for name in ROWS
        for seed in SEEDS
        if file_of(name, seed).exists()
    ]
    print("| changed | seeds | IoU, box windows | IoU, whole pictures | boundary IoU |")
    print("|---|---|---|---|---|")
    for name in ROWS:
        found = [row for row in rows if row["row"] == name and "iou" in row]
        if found:
            cells = (mean_of(found, key) for key in ("iou", "iou_whole", "boundary_iou"))
            print(f"| {name} | {len(found)} | {' | '.join(cells)} |")
    scored = [row for row in rows if "iou" in row]
    for score in label_free.SCORES:
        values = [row["label_free"][score] for row in scored]
        correlation = label_free.rank_correlation(values, [row["iou"] for row in scored])
        shown = "undefined" if correlation is None else f"{correlation:.2f}"
        print(f"rank correlation of {score} with dev IoU over {len(scored)} runs: {shown}")


def mean_of(rows: list[dict[str, float]], key: str) -> str:
    """Mean over seeds, and the range."""
    values = [row[key] for row in rows]
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--shard", default="0/1", help="which share of the rows, as i/n")
    options = parser.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    jobs = [(name, seed) for seed in SEEDS for name in ROWS]
    for index, (name, seed) in enumerate(jobs):
        path = file_of(name, seed)
        if options.table or index % shards != shard or path.exists():
            continue
        row = run_row(name, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row, indent=1) + "\n")
        print(f"{name}, seed {seed}: {row.get('iou', row.get('error'))}", flush=True)
    print_table()


if __name__ == "__main__":
    main()
