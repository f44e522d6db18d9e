"""The command line: `segan train | evaluate | predict | export | data`.

Reading arguments and printing help import neither torch nor pydantic; a command does, once it is
known to be well formed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from segan import __version__
from segan.errors import SeganError

# Beside train.py in a checkout; a run with nothing named trains this.
_DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "cut_paste" / "shapes.yaml"

# What `segan.commands` has a function for each of.
_PROTOCOLS = ["foreground", "semantic", "regions", "boundaries", "instances"]
# Of `segan.exporting.formats`.
_FORMATS = ["onnx", "onnx-int8", "openvino", "pt2", "aot"]
_REFINEMENTS = ("crf", "ucm", "crf+ucm")

_TRAIN = """\
Train a segmenter without ever seeing a mask.

  segan train                                        the shapes world, a few minutes on a CPU
  segan train PICTURES                               a folder of images alone, into unnamed regions
  segan train PICTURES --method iic
  segan train configs/cut_paste/dsb2018.yaml data.root=PATH/TO/DSB2018
  segan train CONFIG train.images=64000 method.weights.cut=0.5 --out runs/trial

The same command without --overwrite resumes an interrupted run. What it writes is in --out:
config.yaml, metrics.jsonl, samples/*.png, state/, segmenter.safetensors and evaluation.json.
"""
_EVALUATE = """\
Score a segmenter against ground truth, beside trivial guesses scored by the same code.

  segan evaluate runs/shapes --data shapes --split test --boxes gt
  segan evaluate runs/dsb2018 --data dsb2018 --root PATH/TO/DSB2018 --set look=dark --boxes gt
  segan evaluate otsu --data wbc --root PATH/TO/segmentation_WBC
  segan evaluate runs/camvid_small --data camvid --root PATH/TO/CamVid --split dev \\
      --protocol semantic --trivial
  segan evaluate felzenszwalb --data bsds500 --root PATH/TO/BSDS500 --split dev --protocol regions
  segan evaluate runs/bsds500_small --data bsds500 --root PATH/TO/BSDS500 --split dev \\
      --protocol regions --refine crf+ucm

The protocols regions and boundaries also take a folder of predictions in place of a segmenter, one
file per picture: label maps (.mat with a cell segs, .npy, .npz, .png) or hierarchies (.mat with
ucm2); for boundaries an 8-bit gray .png holds contour strengths.
"""
_PREDICT = """\
Write masks and overlays for pictures and folders of pictures. Segmenters of unnamed regions write
the regions' numbers.

  segan predict runs/shapes PICTURES --out masks
  segan predict runs/dsb2018 PICTURES --boxes boxes.csv --out masks
  segan predict grabcut PICTURES --boxes boxes.csv --size 64 --context 1.6 --out masks
"""
_EXPORT = """\
Write a segmenter as one file that needs no segan, and check that it gives the same masks.

  segan export runs/shapes --format onnx --out segmenter.onnx
  segan export runs/shapes --format onnx-int8 --pictures PICTURES --out small.onnx
  segan export runs/shapes --compare --data shapes

Formats: onnx, onnx-int8, openvino (.xml and .bin), pt2 (torch.export), aot (.aot.pt2, compiled for
this machine). --compare makes all, or those it names, and prints size, latency and agreement; with
--data also accuracy.
"""
_DATA = """\
Data sets: which there are, how they are laid out, whether a copy is sound, and fetching them.

  segan data list
  segan data info camvid
  segan data check PICTURES
  segan data check --data camvid --root PATH/TO/CamVid
  segan data get cub200 --out data/cub200
"""
_DATA_GET = """\
Fetch a data set's public files, check their digests and unpack them into a new folder.

Run again, a stopped transfer goes on. For a mirror, or a set that has no file of known digest, give
--url, --sha256 and --size. Sets on licence or request say where to ask. Nothing else in segan uses
the network, but segmenters that are named hf://OWNER/NAME.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (0 done, 2 usage, 3 data, 4 diverged, 5, 75)."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # Overrides may stand anywhere; argparse gives up on those behind an option.
    if rest and not (hasattr(options, "overrides") and all(map(_is_override, rest))):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    try:
        code: int = options.run(options)
        return code
    except SeganError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
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
    _add_train(_verb(verbs, "train", "train a segmenter on unlabeled pictures", _TRAIN))
    _add_evaluate(_verb(verbs, "evaluate", "score a segmenter against ground truth", _EVALUATE))
    _add_predict(_verb(verbs, "predict", "write masks for pictures", _PREDICT))
    _add_export(_verb(verbs, "export", "write a segmenter as ONNX, OpenVINO, ...", _EXPORT))
    _add_data(_verb(verbs, "data", "list, describe, check and fetch data sets", _DATA))
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, line: str, text: str
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=line,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


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
        help="for regions and boundaries: dense CRF, merging by contour strength, or both",
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
    parser.add_argument("sources", nargs="+", type=Path, metavar="PATH", help="picture or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks go")
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="boxes as VOC XML folder, COCO JSON or CSV"
    )
    _add_window(parser)
    parser.add_argument("--overwrite", action="store_true", help="start over in that folder")
    _add_trust(parser)
    parser.set_defaults(run=_predict)


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
    get = _verb(verbs, "get", "fetch a data set", _DATA_GET)
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
