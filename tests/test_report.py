"""The report page: whole in itself, honest about what is missing, and safe whatever files hold."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segan.cli import main
from segan.errors import ConfigError
from segan.report import write_report
from segan.report.curves import Series, chart, shown
from segan.report.examples import Example, Key, _chosen
from segan.report.html import element, escaped, table
from segan.report.runs import read_runs
from segan.report.sections import flattened

HOSTILE = '"><img src=x onerror=alert(1)>.png'
TINY = (
    "method.type=cut_paste method.size=16 method.network.width=4 method.network.depth=1 "
    "method.discriminator.width=4 method.discriminator.depth=1 data.type=shapes data.size=32 "
    "data.train_images=8 data.test_images=6 train.images=64 train.batch_size=8 train.log_every=1 "
    "train.sample_every=4 train.health.every=2 train.health.grace=0"
)


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside script and style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)


def is_self_contained(page: Page) -> bool:
    """Nothing but data: and anchors is referred to."""
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(key)
            if value is not None and not value.startswith(("data:image/", "#")):
                raise AssertionError(f"{tag} {key}={value[:60]}")
        assert not any(key.startswith("on") for key in attributes), (tag, attributes)
    return page.count("link") == page.count("iframe") == page.count("object") == 0


def make_run(folder: Path, name: str = "run", **settings: object) -> Path:
    """A run directory of files alone, as a stranger may send it."""
    run = folder / name
    (run / "samples").mkdir(parents=True)
    (run / "config.yaml").write_text(
        json.dumps(
            {
                "method": {"type": "cut_paste", **settings},
                "data": {"type": "folder", "root": "/nowhere/at/all"},
                "train": {"images": 32, "batch_size": 8},
                "evaluation": {"split": "dev"},
            }
        )
    )
    lines = [{"step": i, "images": 8 * i, "generator/area": 1 / (1 + i)} for i in range(1, 5)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in (0, 4):
        picture = np.full((392, 1176, 3), 40 * step, np.uint8)
        Image.fromarray(picture).save(run / "samples" / f"step-{step:06d}.png")
    evaluation = {
        "protocol": "foreground",
        "dataset": "folder",
        "split": "dev",
        "windows": "none",
        "num_images": 9,
        "metrics": {"iou": 0.5, "mae": None},
        "intervals": {"iou": [0.4, 0.6], "mae": None},
        "supervision": {"train": "boxes", "test": "none"},
    }
    others = {"otsu": {**evaluation, "metrics": {"iou": 0.25}}}
    (run / "evaluation.json").write_text(json.dumps(evaluation | {"others": others}))
    names = [HOSTILE, "b\u202egnp.png", *(f"{i}.png" for i in range(7))]
    with (run / "evaluation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "instance", "iou"])
        writer.writerows([name, "", i / 10] for i, name in enumerate(names))
    return run


def report(*runs: Path, **options: object) -> Page:
    out = runs[0].parent / "out.html"
    write_report(runs, out, **options)
    return Page(out)


# --- of a real run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = out.with_suffix(".yaml")
    config.write_text("")
    assert main(["train", str(config), *TINY.split(), "--out", str(out)]) == 0
    return out


def test_report_of_a_run_shows_every_part(trained, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(trained), "--out", str(out), "--examples", "2"]) == 0
    assert str(out) in capsys.readouterr().out
    page = Page(out)
    assert is_self_contained(page)
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert ids >= {
        *("warnings", "evaluation", "worst-median-best", "samples-over-training"),
        *("masks", "curves", "configuration", "environment"),
    }
    # Six pictures of three panels each, and the panels of steps 0, 4 and 8.
    assert page.count("img") == 6 * 3 + 3
    assert "method.network.width" in page.text
    assert "torch" in page.text
    assert "Not in this report" not in page.text
    assert "diversity" in page.text


def test_found_masks_of_the_report_are_those_that_were_scored(trained):
    """The IoU of a drawn example, from its own panels' masks, is the score in the table."""
    from segan import config, data
    from segan.evaluation.cases import cases_of
    from segan.evaluation.metrics import iou
    from segan.opening import open_segmenter
    from segan.report import examples
    from segan.training.config import RunConfig

    (run,) = read_runs([trained])
    built = config.build(RunConfig, run.config)
    opened = open_segmenter(str(trained))
    scores = {(line["image"], int(line["instance"])): float(line["iou"]) for line in run.records}
    which = examples._cases(built, opened, boxed=True)
    seen = 0
    for case in cases_of(data.build(built.data, "dev"), which):
        found = examples._found(case, opened, clip=True)
        assert iou(found, case.truth) == pytest.approx(scores[case.picture, case.instance])
        seen += 1
    assert seen == len(scores) > 0


def test_report_where_the_data_is_gone_says_so_and_keeps_the_scores(tmp_path):
    run = make_run(tmp_path)
    page = report(run)
    assert "No pictures here" in page.text
    assert "/nowhere/at/all" in page.text
    assert "0.800" in page.text


# --- hostile and broken --------------------------------------------------------------------------


def test_names_of_files_are_escaped(tmp_path):
    run = make_run(tmp_path, name='<script>alert("run")<', network="</script><script>alert(2)")
    page = report(run)
    assert is_self_contained(page)
    assert page.count("script") == 1
    assert HOSTILE in page.text
    assert "\u202e" not in page.text
    assert r"b\u202egnp.png" in page.text


def test_page_runs_no_other_script_than_its_own(tmp_path):
    text = (report(make_run(tmp_path)), (tmp_path / "out.html").read_text())[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "unsafe" not in policy[1]


def test_names_that_are_no_text_are_shown(tmp_path):
    run = make_run(tmp_path)
    with (run / "evaluation.csv").open("ab") as file:
        file.write(b"caf\xe9.png,,0.95\n")
    assert r"caf\udce9.png" in report(run).text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.jsonl", "[1, 2]\n3\n", "metrics.jsonl: no step was logged"),
        ("evaluation.json", "{", "evaluation.json: damaged"),
        ("evaluation.json", '{"metrics": 3}', "evaluation.json: damaged"),
        ("evaluation.json", "[" * 100_000, "evaluation.json: damaged"),
        ("environment.json", "7", "environment.json: damaged"),
        ("samples/step-000004.png", "no picture", "cannot read"),
        ("segmenter.safetensors", "junk", "is not a whole safetensors file"),
        ("state/LATEST", "../../etc", "state/LATEST: damaged"),
        ("evaluation.csv", "image,iou\na.png,many\n", "IoU"),
    ],
)
def test_damaged_part_is_told_of(tmp_path, name, content, said):
    run = make_run(tmp_path)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(content)
    assert said in report(run).text


def test_a_configuration_without_data_is_told_of_though_a_root_is_given(tmp_path):
    run = make_run(tmp_path)
    (run / "config.yaml").write_text("method: {type: cut_paste}\n")
    write_report([run], tmp_path / "out.html", root=tmp_path)
    assert "'data' is required" in Page(tmp_path / "out.html").text


def test_bare_run_is_reported_with_what_it_lacks(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.yaml").write_text("method: {type: iic}\n")
    page = report(tmp_path / "bare")
    for part in ("metrics.jsonl", "health.jsonl", "samples", "evaluation.json", "environment.json"):
        assert f"{part}: " in page.text, part
    assert page.count("svg") == 0


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["report", str(make_run(tmp_path)), "--out", str(tmp_path / "page.txt")]) == 2
    assert "must end in .html" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "run"), "--examples", "0"]) == 2


# --- warnings ------------------------------------------------------------------------------------


def test_warnings_of_collapse_are_shown(tmp_path):
    run = make_run(tmp_path)
    lines = [
        {"step": 2, "area": 0.0, "empty": 1.0, "warnings": []},
        {"step": 4, "area": 0.0, "empty": 1.0, "warnings": ["step 4: masks are empty; raise it"]},
    ]
    (run / "health.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = run / "state" / "step-00000004"
    state.mkdir(parents=True)
    (state / "state.json").write_text(json.dumps({"health": {"nothing": 9, "border": 2}}))
    (run / "state" / "LATEST").write_text("step-00000004\n")
    with (run / "metrics.jsonl").open("a") as file:
        line = {"step": 5, "images": 24, "generator/area": None, "skipped_updates": 3}
        file.write(json.dumps(line) + "\n")
    text = report(run).text
    assert "step 4: masks are empty; raise it" in text
    assert "at the end: masks are empty" in text
    assert "masks gather at the border" not in text
    assert "3 updates were left out" in text
    assert "generator/area was not finite in 1 of 5 logged steps" in text
    assert "training stands at 24 of 32 images" in text


# --- several runs --------------------------------------------------------------------------------


def test_several_runs_are_told_apart_and_their_settings_compared(tmp_path):
    first = make_run(tmp_path / "a", size=16)
    second = make_run(tmp_path / "b", size=32)
    write_report([first, second], tmp_path / "out.html", draw=False)
    page = Page(tmp_path / "out.html")
    assert "a/run" in page.text
    assert "b/run" in page.text
    assert re.search(r"What differs .* method\.size 16 32 ", page.text)
    chart_data = [json.loads(a["data-chart"] or "") for _, a in page.tags if a.get("data-chart")]
    assert [line["name"] for line in chart_data[0]["lines"]] == ["a/run", "b/run"]
    # A trivial guess is scored alike in both, and stands there once.
    assert page.text.count("otsu") == 1


def test_equal_configurations_are_called_the_same(tmp_path):
    runs = [make_run(tmp_path / name) for name in "ab"]
    write_report(runs, tmp_path / "out.html", draw=False)
    assert "The configurations are the same" in Page(tmp_path / "out.html").text


def test_root_for_runs_of_different_data_is_refused(tmp_path):
    runs = [make_run(tmp_path / name) for name in "ab"]
    (runs[1] / "config.yaml").write_text("data: {type: shapes}\n")
    with pytest.raises(ConfigError, match="--root is one folder"):
        write_report(runs, tmp_path / "out.html", root=tmp_path)
    with pytest.raises(ConfigError, match="named twice"):
        write_report([runs[0], runs[0]], tmp_path / "out.html")


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 2, 3, 5, 9, 100])
def test_worst_median_and_best_overlap_nowhere(total):
    ranked = [Example(key=Key(str(i), None), score=i / total) for i in range(total)]
    groups = _chosen(ranked, 3)
    names = [example.key for group in groups.values() for example in group]
    assert len(names) == len(set(names)) <= 9
    assert groups["worst"][0].score == 0
    if total > 2:
        middle = [example.score for example in groups["median"]]
        assert abs(np.mean(middle) - np.median([e.score for e in ranked])) <= 1 / total
        assert groups["best"][0].score == ranked[-1].score


def test_line_breaks_where_a_value_was_not_finite():
    drawn = chart("loss", [Series(name="a", color=0, points=[(0, 1.0), (1, None), (2, 2.0)])])
    path = re.search(r' d="([^"]+)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2
    assert "L" not in path[1]


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [-2.0], [1e-9, 1e9], [0, 1e-30], [-1, 5e6]])
def test_any_values_can_be_drawn_inside_the_axes(values):
    points = [(float(i), value) for i, value in enumerate(values)]
    drawn = chart("x", [Series(name="a", color=0, points=points)])
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ (-?[\d.]+)", drawn)]
    assert len(heights) == len(values)
    assert all(9.9 <= height <= 156.1 for height in heights), heights


def test_chart_without_values_is_nothing():
    assert chart("x", [Series(name="a", color=0, points=[(0, None)])]) == ""
    assert chart("x", []) == ""


def test_text_is_escaped_and_elements_are_not():
    assert element("p", "<b>", element("b", "&")) == "<p>&lt;b&gt;<b>&amp;</b></p>"
    assert element("i", title='"<') == '<i title="&quot;&lt;"></i>'
    assert escaped("a\x00b\u2066") == r"a\x00b\u2066"
    assert '<th scope="row">&lt;x</th><td>&gt;</td>' in table(["", "y"], [["<x", ">"]])


def test_numbers_are_short():
    assert [shown(v) for v in (0, 0.5, 1234.5, 1e-7, 2e9)] == [
        "0",
        "0.5",
        "1,234",
        "1e-07",
        "2e+09",
    ]


def test_flattened_settings():
    tree = {"a": {"b": None, "c": {}}, "d": True, "e": [1, 2]}
    assert flattened(tree) == {"a.b": "null", "a.c": "{}", "d": "true", "e": "[1, 2]"}
