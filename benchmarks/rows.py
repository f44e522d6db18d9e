"""Finished results, kept as small JSON files so that tables accumulate.

    python benchmarks/rows.py keep runs/shapes shapes --seconds 250 --note "alone on 2 cores"
    python benchmarks/rows.py table shapes

A row is benchmarks/results/SUITE/RUN.json: scores of the segmenter and of the trivial guesses,
configuration, seed, commit, hardware, seconds. This is for runs that were made one by one; suites
are `segan leaderboard` (docs/leaderboard.md), which scores checkpoints too.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import torch

from segan import config

RESULTS = Path(__file__).resolve().parent / "results"
METRICS = (
    *("iou", "iou_image_mean", "boundary_iou", "iou_oracle_polarity"),
    *("miou", "accuracy", "nmi", "miou_many_to_one", "covering_ods", "covering_ois"),
)
MAIN = ("iou", "miou", "covering_ods")
MOST_BYTES = 4096


def keep(run: Path, suite: str, *, seconds: int, note: str) -> None:
    """Keep the evaluation of a run as a row."""
    found = json.loads((run / "evaluation.json").read_text())
    tree = config.read_tree(run / "config.yaml")
    rows = {"segan": found} | found.pop("others")
    row = {
        "suite": suite,
        "dataset": found["dataset"],
        "split": found["split"],
        "num_images": found["num_images"],
        "num_instances": found.get("num_instances"),
        "supervision": found["supervision"],
        "box_source": found["box_source"],
        "interval": [round(value, 4) for value in found["intervals"][main_metric(found)]],
        "matching": found["matching"],
        "rows": {
            name: {
                metric: round(each["metrics"][metric], 4)
                for metric in METRICS
                if each["metrics"].get(metric) is not None
            }
            for name, each in rows.items()
        },
        "method": tree["method"]["type"],
        "images": tree["train"]["images"],
        "seed": tree["train"]["seed"],
        "seconds": seconds,
        "hardware": f"{os.cpu_count()} CPU cores",
        "note": note,
        "torch": torch.__version__,
        "git_commit": found["git_commit"],
    }
    text = json.dumps(row, separators=(",", ":")) + "\n"
    assert len(text) <= MOST_BYTES, f"{len(text)} bytes"
    path = RESULTS / suite / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main_metric(row: dict) -> str:
    """The metric a protocol is known by."""
    return next(metric for metric in MAIN if metric in row["metrics"])


def table(suite: str) -> None:
    """Print a suite as Markdown: each row's mean over seeds, and the seeds."""
    files = sorted((RESULTS / suite).glob("*.json"))
    if not files:
        kept = ", ".join(sorted(path.name for path in RESULTS.iterdir()))
        sys.exit(f"error: no rows of {suite!r} in {RESULTS}; there are {kept}")
    runs = [json.loads(path.read_text()) for path in files]
    runs.sort(key=lambda run: run["seed"])
    print("| row | mean | by seed | oracle polarity |")
    print("|---|---|---|---|")
    for name in dict.fromkeys(name for run in runs for name in run["rows"]):
        found = [run["rows"][name] for run in runs if name in run["rows"]]
        values = [next(row[metric] for metric in MAIN if metric in row) for row in found]
        oracle = runs[0]["rows"][name].get("iou_oracle_polarity")
        # Training-free rows are the same whatever the seed of the training.
        seeds = ", ".join(f"{v:.3f}" for v in values) if len(set(values)) > 1 else ""
        shown = "" if oracle is None else f"{oracle:.3f}"
        print(f"| {name} | {statistics.mean(values):.3f} | {seeds} | {shown} |")
    images = [run["rows"].get("segan", {}).get("iou_image_mean") for run in runs]
    if None not in images:
        print(f"\nsegan, mean of per-image means: {', '.join(f'{v:.3f}' for v in images)}")
    print(f"seconds: {', '.join(str(run['seconds']) for run in runs)}")


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("keep")
    one.add_argument("run", type=Path)
    one.add_argument("suite")
    one.add_argument("--seconds", type=int, required=True)
    one.add_argument("--note", default="")
    verbs.add_parser("table").add_argument("suite")
    options = parser.parse_args()
    if options.verb == "keep":
        keep(options.run, options.suite, seconds=options.seconds, note=options.note)
    else:
        table(options.suite)


if __name__ == "__main__":
    main()
