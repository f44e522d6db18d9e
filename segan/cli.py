"""The command line: `segan train | evaluate | predict | export | report | serve | data | ...`.

Reading arguments and printing help import neither torch nor pydantic; a command does, once it is
known to be well formed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from segan import __version__, texts
from segan.errors import SeganError

# Beside train.py in a checkout; a run with nothing named trains this.
_DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "cut_paste" / "shapes.yaml"

# What `segan.commands` has a function for each of.
_PROTOCOLS = ["foreground", "semantic", "regions", "boundaries", "instances"]
# Of `segan.exporting.formats`.
_FORMATS = ["onnx", "onnx-int8", "openvino", "pt2", "aot"]
_REFINEMENTS = ("crf", "ucm", "crf+ucm", "crf+ucm+edges")

# What `segan.formats` and `segan.refining` have something for each of.
_OUTPUTS = (
    *("masks", "overlays", "soft", "instances", "npz"),
    *("labelme", "coco", "labelstudio", "cvat", "yolo"),
)
_STEPS = ("crf", "guided", "grabcut", "clean", "flips")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (0 done, 2 usage, 3 data, 4 diverged, 5, 75)."""
    options, rest = _parser().parse_known_args(arguments)
    # Overrides may stand anywhere; argparse gives up on those behind an option.
    if rest and not (hasattr(options, "overrides") and all(map(_is_override, rest))):
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    try:
        code: int = options.run(options)
        return code
    except SeganError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130  # as shells have it: 128 + SIGINT


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segan",
        description="Unsupervised image segmentation with generative adversarial networks.",
    )
    parser.add_argument("--version", action="version", version=f"segan {__version__}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(_verb(verbs, "train", "train a segmenter on unlabeled pictures", texts.TRAIN))
    _add_evaluate(_verb(verbs, "evaluate", "score a segmenter against truth", texts.EVALUATE))
    _add_predict(_verb(verbs, "predict", "write masks for pictures", texts.PREDICT))
    _add_export(_verb(verbs, "export", "write a segmenter as ONNX, OpenVINO, ...", texts.EXPORT))
    _add_report(_verb(verbs, "report", "what runs did, as one web page", texts.REPORT))
    _add_serve(_verb(verbs, "serve", "a web page that shows masks of pictures", texts.SERVE))
    _add_data(_verb(verbs, "data", "list, describe, check and fetch data sets", texts.DATA))
    _add_leaderboard(_verb(verbs, "leaderboard", "run and tabulate a suite", texts.LEADERBOARD))
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, line: str, text: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=line,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(parser=parser)  # which one says what is wrong
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", help="a YAML file, or a folder of images")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings that replace the file's"
    )
    parser.add_argument("--method", metavar="NAME", help="method for a folder of images")
    parser.add_argument(
        "--out", type=Path, help="run directory (default: runs/<name of the config>)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    config, overrides = options.config, list(options.overrides)
    if config is not None and "=" in config:
        config, overrides = None, [config, *overrides]
    path = Path(config) if config is not None else _DEFAULT_CONFIG
    from segan import commands

    return commands.train(
        path,
        overrides,
        method=options.method,
        out=options.out or Path("runs") / path.resolve().stem,
        overwrite=options.overwrite,
        dry_run=options.dry_run,
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "segmenter",
        help="a run, a segmenter or exported file, a training-free one such as otsu, "
        "hf://OWNER/NAME of the Hugging Face Hub, or predictions",
    )
    parser.add_argument("--data", required=True, metavar="NAME", help="data set, such as dsb2018")
    parser.add_argument("--root", metavar="DIR", help="where the data set is")
    parser.add_argument(
        "--set", action="append", default=[], metavar="key=value", help="data set setting"
    )
    parser.add_argument("--split", choices=["train", "dev", "test", "all"], default="test")
    parser.add_argument(
        "--protocol",
        choices=_PROTOCOLS,
        default=_PROTOCOLS[0],
        metavar="NAME",
        help=f"{', '.join(_PROTOCOLS)} (docs/protocols.md)",
    )
    parser.add_argument(
        "--boxes", metavar="gt|FILE", help="score windows around boxes: the data set's, or a file's"
    )
    parser.add_argument(
        "--jitter", type=float, default=0.0, metavar="F", help="move box sides by up to F"
    )
    parser.add_argument(
        "--shift", type=float, default=0.0, metavar="F", help="move window centres by up to F"
    )
    _add_window(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument(
        "--levels",
        type=int,
        metavar="N",
        help="scales per picture, for regions and boundaries (10)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that score, likewise (default: cores)"
    )
    parser.add_argument(
        "--refine",
        choices=_REFINEMENTS,
        help="for regions and boundaries: dense CRF, merging by contour strength, or both; with "
        "edges, contours that the network has no boundary for count half",
    )
    parser.add_argument(
        "--match-on",
        choices=["train", "dev", "test"],
        help="for semantic: match regions to classes on this split, not on the one scored",
    )
    parser.add_argument("--trivial", action="store_true", help="also score the trivial guesses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write scores per picture here")
    _add_trust(parser)
    parser.set_defaults(run=_evaluate)


def _add_window(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, help="window side, for segmenters without their own")
    parser.add_argument("--context", type=float, help="window over box side, likewise")


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", action="store_true", help="allow .pt2 files, which can run code of their maker"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from segan import commands

    return commands.evaluate(options)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "segmenter",
        help="a run, a segmenter or exported file, a training-free one such as otsu, or "
        "hf://OWNER/NAME of the Hugging Face Hub",
    )
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="PATH", help="picture, folder, pattern or video"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks go")
    _add_formats(parser)
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="boxes as VOC XML folder, COCO JSON or CSV"
    )
    _add_window(parser)
    parser.add_argument("--overwrite", action="store_true", help="start over in that folder")
    _add_trust(parser)
    parser.set_defaults(run=_predict)


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", nargs="+", choices=_OUTPUTS, metavar="NAME", default=list(_OUTPUTS[:2]),
        help=f"what is written: {', '.join(_OUTPUTS)} (default: {' '.join(_OUTPUTS[:2])})",
    )  # fmt: skip
    parser.add_argument(
        "--refine", nargs="+", choices=_STEPS, metavar="NAME", default=[],
        help=f"steps after the network, in this order: {', '.join(_STEPS)} (docs/refine.md)",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, metavar="T", default=0.5, help="of the probability (0.5)"
    )
    parser.add_argument(
        "--instances", action="store_true", help="each connected piece is an object"
    )
    parser.add_argument(
        "--min-area", type=int, metavar="N", default=0, help="drop pieces of fewer pixels"
    )
    parser.add_argument("--max-area", type=int, metavar="N", help="drop pieces of more pixels")
    parser.add_argument(
        "--tile", type=int, metavar="N", help="cut into tiles of N pixels (default: if large)"
    )
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", default=100_000_000,
        help="skip larger pictures (100000000)",
    )  # fmt: skip
    parser.add_argument(
        "--join-videos", action="store_true", help="also join the overlays of each video"
    )


def _predict(options: argparse.Namespace) -> int:
    from segan import commands

    return commands.predict(options)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("segmenter", help="a run or a segmenter file")
    parser.add_argument("--format", choices=_FORMATS, default=_FORMATS[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --compare, a folder")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="for onnx-int8: pictures like those of use"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference of probabilities"
    )
    parser.add_argument("--no-verify", action="store_true", help="skip the parity check")
    parser.add_argument(
        "--compare", nargs="*", choices=_FORMATS, metavar="FORMAT", help="measure all, or these"
    )
    parser.add_argument("--data", metavar="NAME", help="for --compare: data set for accuracy")
    parser.add_argument("--root", metavar="DIR", help="where the data set is")
    parser.add_argument(
        "--set", action="append", default=[], metavar="key=value", help="data set setting"
    )
    parser.add_argument("--split", choices=["train", "dev", "test", "all"], default="dev")
    parser.add_argument("--protocol", choices=_PROTOCOLS, default=_PROTOCOLS[0], metavar="NAME")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")
    nothing = dict.fromkeys(("boxes", "size", "context", "levels", "workers", "refine", "match_on"))
    parser.set_defaults(run=_export, trust=True, trivial=False, jitter=0.0, shift=0.0, **nothing)


def _export(options: argparse.Namespace) -> int:
    from segan import export_commands

    return export_commands.export_segmenter(options)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="(report.html)"
    )
    parser.add_argument(
        "--examples", type=int, default=4, metavar="N", help="of worst, median and best each (4)"
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data set is now")
    parser.add_argument(
        "--no-pictures", action="store_true", help="do not open the data set for these"
    )
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from segan import commands

    return commands.report(options)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx", help="exported file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    parser.add_argument(
        "--max-megabytes", type=float, default=32, metavar="MB", help="of a picture's file (32)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=4, metavar="MP", help="of a picture (4)"
    )
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from segan import commands

    return commands.serve(options)


def _add_data(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = _verb(verbs, "list", "a table of all data sets", "All data sets.")
    listing.set_defaults(run=_data, function="list_sets")
    info = _verb(verbs, "info", "one data set", "What a data set holds, its terms and its layout.")
    info.add_argument("name", metavar="NAME", help="data set, such as camvid")
    info.set_defaults(run=_data, function="info")
    check = _verb(verbs, "check", "look at every picture", "Look at every picture, or sample.")
    check.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="a folder of pictures")
    check.add_argument("--data", metavar="NAME", help="instead: a data set and its ground truth")
    check.add_argument("--root", metavar="DIR", help="where that data set is")
    check.add_argument(
        "--set", action="append", default=[], metavar="key=value", help="data set setting"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the report here")
    check.set_defaults(run=_data, function="check")
    get = _verb(verbs, "get", "fetch a data set", texts.DATA_GET)
    get.add_argument("name", metavar="NAME", help="data set, such as cub200")
    get.add_argument("--out", type=Path, metavar="DIR", help="new folder (default: data/NAME)")
    get.add_argument("--url", help="archive to fetch instead of the set's own")
    get.add_argument("--sha256", help="its digest, hexadecimal")
    get.add_argument("--size", type=int, metavar="BYTES", help="its size")
    get.set_defaults(run=_data, function="get_set")


def _data(options: argparse.Namespace) -> int:
    from segan import data_commands

    code: int = getattr(data_commands, options.function)(options)
    return code


def _add_leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suite",
        metavar="SUITE",
        help="copy_paste_guards, cpu, gpu, seigan_guards, single, smoke, or a YAML file",
    )
    parser.add_argument(
        "--root", action="append", default=[], metavar="NAME=PATH", help="where a data set is"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only rows so named, such as 'wbc-*'; may be repeated",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at a time (1)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="runs, logs and tables (runs/leaderboard/SUITE)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("benchmarks") / "results",
        metavar="DIR",
        help="finished rows go into DIR/SUITE (./benchmarks/results)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list rows and what is there")
    parser.add_argument("--collect", action="store_true", help="write the tables, run nothing")
    parser.add_argument("--row", metavar="ROW", help="run this one here, and write no tables")
    parser.set_defaults(run=_leaderboard)


def _leaderboard(options: argparse.Namespace) -> int:
    from segan import commands

    return commands.leaderboard(options)
