"""The sections of a report, each from the runs that have something for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segan.data.images import UnreadableImage, read_image
from segan.evaluation.results import HEADINGS
from segan.report.curves import NUM_COLORS, Series, chart, interval_bar, legend, shown
from segan.report.examples import Example, Examples
from segan.report.html import Html, element, embedded, joined, table
from segan.report.runs import Run, Tree, number

# Sample panels of a run that are embedded; more grow the page without showing more.
MOST_PANELS = 24

_COUNTS = ("step", "images", "warnings")
_TILE = 98  # of a sample panel, with its gap
_PANEL_ROWS = {
    2: ("picture", "regions"),
    3: ("picture", "mask", "outline"),
    4: ("picture", "mask", "composite", "outline"),
}
_STATISTICS = {
    "area": "mask area: mean opacity of what a mask may cover",
    "empty": "empty: share of masks under 1 %",
    "full": "full: share of masks over 90 %",
    "undecided": "undecided: 0 binary, 0.5 nowhere decided",
    "border_touch": "border touch: 0 never, 1 uniform, above 1 hugging",
    "diversity": "diversity: 0 the same mask everywhere",
    "largest": "largest region: mean share of a pixel",
    "used": "regions in use",
    "certainty": "certainty: 0 undecided, 1 decided",
}
# Where 1 is best, 0 worst: these have a bar.
_PRIMARY = ("iou", "miou", "pq", "covering_ods", "f_ods")


def section(title: str, *children: str) -> Html:
    """A section with an anchor; nothing where there is nothing in it."""
    inside = joined(*children)
    if not inside:
        return Html("")
    anchor = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
    return element(
        "section",
        element("h2", title, id=f"{anchor}-title"),
        inside,
        id=anchor,
        aria_labelledby=f"{anchor}-title",
    )


def links(body: Sequence[Html]) -> list[Html]:
    """A link to each section of a page."""
    found = (re.search(r'<h2 id="([a-z-]+)-title">([^<]+)</h2>', part) for part in body)
    return [element("a", match[2], href=f"#{match[1]}") for match in found if match]


# --- what is wrong -------------------------------------------------------------------------------


def warnings(runs: Sequence[Run]) -> Html:
    """Warnings of collapse, skipped updates, values that were not finite, unfinished runs."""
    blocks = []
    fine = []
    for run in runs:
        found = list(dict.fromkeys(_warnings_of(run)))
        if found:
            name = [element("h3", run.name)] if len(runs) > 1 else []
            items = (element("li", text) for text in found)
            blocks.append(element("div", *name, element("ul", *items), class_="warn"))
        else:
            fine.append(run.name)
    if fine:
        names = f" ({', '.join(fine)})" if len(runs) > 1 else ""
        said = f"No update left out, no value that was not finite, no warning on record{names}."
        blocks.append(element("p", said, class_="fine"))
    return section("Warnings", *blocks)


def _warnings_of(run: Run) -> Iterator[str]:
    for line in run.health:
        messages = line.get("warnings")
        yield from (str(text) for text in (messages if isinstance(messages, list) else []))
    yield from run.standing
    last = run.metrics[-1] if run.metrics else {}
    if skipped := number(last.get("skipped_updates")):
        yield f"{skipped:.0f} updates were left out because a loss or gradient was not finite"
    for name in _terms([run]):
        count = sum(name in line and number(line[name]) is None for line in run.metrics)
        if count:
            yield f"{name} was not finite in {count} of {len(run.metrics)} logged steps"
    seen, planned = number(last.get("images")), number(run.setting("train.images"))
    if seen is not None and planned is not None and seen < planned:
        yield f"training stands at {seen:,.0f} of {planned:,.0f} images"


# --- scores --------------------------------------------------------------------------------------


def evaluation(runs: Sequence[Run]) -> Html:
    """One table per thing that was scored, runs first, then the trivial guesses."""
    groups: dict[str, dict[str, tuple[Tree, int | None]]] = {}
    for index, run in enumerate(runs):
        for name, tree in run.evaluations.items():
            plain = name.removeprefix("whole pictures: ")
            own = plain in (run.name, "segan")
            rows = groups.setdefault(_scored(tree), {})
            rows.setdefault(run.name if own else plain, (tree, index if own else None))
    blocks = []
    for title, rows in groups.items():
        ordered = dict(sorted(rows.items(), key=lambda item: item[1][1] is None))
        blocks += [_score_table(title, ordered), *_per_class(ordered)]
    return section("Evaluation", *blocks)


def _scored(tree: Tree) -> str:
    where = "windows around boxes" if tree.get("windows") == "box" else "whole pictures"
    if tree["protocol"] == "regions" or tree["protocol"] == "boundaries":
        where = f"{tree['protocol']} of {where}"
    count = tree.get("num_images")
    objects = tree.get("num_instances")
    counted = f"{count} pictures" + (f", {objects} objects" if objects else "")
    return f"{tree.get('dataset')}, {tree.get('split')} split, {where} ({counted})"


def _score_table(title: str, rows: Mapping[str, tuple[Tree, int | None]]) -> Html:
    trees = [tree for tree, _ in rows.values()]
    left_out = "accuracy" if trees[0]["protocol"] == "foreground" else ""
    named = [
        name
        for name in HEADINGS
        if name != left_out and any(name in tree["metrics"] for tree in trees)
    ]
    primary = next((name for name in _PRIMARY if name in named), None)
    headings = ["", "trained with"]
    for name in named:
        headings += [_heading(name)] + (["0 to 1"] if name == primary else [])
    lines = []
    for name, (tree, index) in rows.items():
        color = "control" if index is None else f"c{index % NUM_COLORS}"
        label = joined(element("i", class_=f"swatch {color}"), name)
        supervision = tree.get("supervision")
        trained = supervision.get("train") if isinstance(supervision, dict) else None
        cells: list[str] = [label, str(trained or "-")]
        for metric in named:
            value, interval = _value(tree, metric)
            cells.append(_cell(value, interval))
            if metric == primary:
                cells.append("" if value is None else interval_bar(value, interval, color))
        lines.append(cells)
    notes = element("p", _how(trees), class_="note")
    return joined(table(headings, lines, caption=title, class_="scores"), notes)


def _heading(name: str) -> str:
    text = HEADINGS[name].replace("-\n", "").replace("\n", " ")
    return text.replace(" [95 % interval]", "")


def _value(tree: Tree, metric: str) -> tuple[float | None, tuple[float, float] | None]:
    ends = tree["intervals"].get(metric)
    pair = [number(end) for end in ends] if isinstance(ends, list) and len(ends) == 2 else []
    low, high = pair if pair else (None, None)
    interval = None if low is None or high is None else (low, high)
    return number(tree["metrics"].get(metric)), interval


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    if interval is None:
        return _digits(value)
    span = element("small", f"{_digits(interval[0])} to {_digits(interval[1])}")
    return joined(_digits(value), " ", span)


def _digits(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _how(trees: Sequence[Tree]) -> str:
    said = ["Small numbers are 95 % bootstrap intervals over pictures"]
    for key, word in (("postprocessing", "post-processing"), ("matching", "matched")):
        found = {str(tree.get(key)) for tree in trees} - {"none", "None"}
        said += [f"{word}: {'; '.join(sorted(found))}"] if found else []
    boxes = {str(tree["train_box_source"]) for tree in trees if tree.get("train_box_source")}
    said += [f"boxes in training: {', '.join(sorted(boxes))}"] if boxes else []
    return ". ".join(said) + "."


def _per_class(rows: Mapping[str, tuple[Tree, int | None]]) -> list[Html]:
    found = {
        name: tree["per_class"]
        for name, (tree, _) in rows.items()
        if isinstance(tree.get("per_class"), dict)
    }
    if not found:
        return []
    classes = list(dict.fromkeys(each for scores in found.values() for each in scores))
    lines: list[list[str]] = []
    for each in classes:
        values = [number(scores.get(each)) for scores in found.values()]
        lines.append([each, *("-" if value is None else _digits(value) for value in values)])
    return [table(["class", *found], lines, caption="IoU of each class", class_="scores")]


# --- pictures ------------------------------------------------------------------------------------


def examples(runs: Sequence[Run], found: Sequence[Examples | None]) -> Html:
    """Worst, median and best of each run."""
    blocks = []
    for run, each in zip(runs, found, strict=True):
        if each is None:
            continue
        head = f"{run.name}: by {each.score_name}, of {each.count} scored"
        blocks.append(element("h3", head))
        if each.reason:
            blocks.append(element("p", f"No pictures here: {each.reason}.", class_="note"))
        for name, group in each.groups.items():
            cards = (_card(example, each.score_name) for example in group)
            row = element("div", *cards, class_="cards")
            blocks.append(element("div", element("h4", name), row, class_="group"))
    return section("Worst, median, best", *blocks)


def _card(example: Example, score_name: str) -> Html:
    where = example.key.picture
    if example.key.instance is not None:
        where += f", object {example.key.instance}"
    panels = (
        element("span", embedded(picture, alt=f"{name}: {where}"), element("b", name))
        for name, picture in example.panels.items()
    )
    caption = element(
        "figcaption",
        element("strong", f"{score_name} {_digits(example.score)}"),
        " ",
        element("span", where),
    )
    row = element("div", *panels, class_="panels") if example.panels else Html("")
    return element("figure", row, caption, class_="card")


def samples(runs: Sequence[Run]) -> Html:
    """Sample panels of each run behind a slider."""
    return section("Samples over training", *(_strip(run) for run in runs))


def _strip(run: Run) -> Html:
    size = -(-len(run.samples) // MOST_PANELS)
    # Counted from the end: the last panel is the one that matters.
    kept = run.samples[::-1][:: size or 1][::-1]
    panels, bad = [], []
    rows: Sequence[str] = ()
    for step, path in kept:
        try:
            picture = read_image(path, max_megapixels=20).permute(1, 2, 0).numpy()
        except UnreadableImage as error:
            bad.append(str(error))
            continue
        rows = _PANEL_ROWS.get(round(picture.shape[0] / _TILE), ())
        when = f"step {step:,}, {step * run.batch_size:,} images"
        panels.append(embedded(picture, alt=f"{run.name}, {when}", data_when=when))
    notes = [element("p", text, class_="note") for text in bad]
    if not panels:
        return joined(*notes)
    last = len(panels) - 1
    slider = element(
        "input",
        type="range",
        min=0,
        max=last,
        value=last,
        step=1,
        aria_label=f"moment of training, {run.name}",
    )
    said = f"Rows from above: {', '.join(rows)}." if rows else ""
    strip = element("div", *panels, class_="scroll", tabindex=0, role="region", aria_label=run.name)
    control = element("label", slider, element("output", ""), class_="slider")
    return element(
        "div",
        element("h3", run.name),
        control,
        strip,
        element("p", said, class_="note"),
        *notes,
        class_="strip",
    )


# --- curves --------------------------------------------------------------------------------------


def curves(runs: Sequence[Run]) -> Html:
    """Every logged value over images seen, one chart each, grouped by phase."""
    phases: dict[str, list[Html]] = {}
    for name in _terms(runs):
        phase, _, term = name.rpartition("/")
        lines = [_series(run, i, name, run.metrics) for i, run in enumerate(runs)]
        title = term.replace("_", " ")
        phases.setdefault(phase or "run", []).append(chart(title, [s for s in lines if s.points]))
    blocks = [_legend(runs)]
    for phase, charts in phases.items():
        blocks += [element("h3", phase), element("div", *charts, class_="charts")]
    return section("Curves", *(blocks if phases else []))


def mask_statistics(runs: Sequence[Run]) -> Html:
    """What the masks of a fixed batch looked like at each check."""
    charts = []
    for name, title in _STATISTICS.items():
        lines = [_series(run, i, name, run.health) for i, run in enumerate(runs)]
        charts.append(chart(title, [series for series in lines if series.points]))
    if not joined(*charts):
        return Html("")
    note = element("p", "Measured without labels on the windows of the samples.", class_="note")
    return section("Masks", note, _legend(runs), element("div", *charts, class_="charts"))


def _legend(runs: Sequence[Run]) -> Html:
    return legend([run.name for run in runs]) if len(runs) > 1 else Html("")


def _terms(runs: Sequence[Run]) -> list[str]:
    """Names of logged values, those of a run as a whole last."""
    names = dict.fromkeys(n for run in runs for line in run.metrics for n in line)
    return sorted((n for n in names if n not in _COUNTS), key=lambda name: "/" not in name)


def _series(run: Run, index: int, name: str, lines: Sequence[Tree]) -> Series:
    points = [
        (float(line["step"] * run.batch_size), number(line[name])) for line in lines if name in line
    ]
    return Series(name=run.name, color=index, points=points)


# --- settings ------------------------------------------------------------------------------------


def configuration(runs: Sequence[Run]) -> Html:
    """What differs between the runs, and everything folded away."""
    flat = [flattened(run.config) for run in runs]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    names = [run.name for run in runs]
    rows = {key: [each.get(key, "not set") for each in flat] for key in keys}
    differs = [[key, *values] for key, values in rows.items() if len(set(values)) > 1]
    blocks: list[str] = []
    if len(runs) > 1 and differs:
        blocks.append(table(["setting", *names], differs, caption="What differs", class_="plain"))
    elif len(runs) > 1:
        blocks.append(element("p", "The configurations are the same."))
    everything = table(["setting", *names], [[key, *v] for key, v in rows.items()], class_="plain")
    summary = element("summary", f"All {len(rows)} settings")
    return section("Configuration", *blocks, element("details", summary, everything))


def flattened(tree: Any, above: str = "") -> dict[str, str]:
    """A configuration as "key.sub" to its value in words."""
    if isinstance(tree, dict) and tree:
        found: dict[str, str] = {}
        for key, value in tree.items():
            found |= flattened(value, f"{above}.{key}" if above else str(key))
        return found
    words = {True: "true", False: "false", None: "null"}
    simple = tree is None or isinstance(tree, bool)
    return {above: words[tree] if simple else str(tree)}


def environment(runs: Sequence[Run]) -> Html:
    """What made the runs, and what in them is missing."""
    facts = [_made_with(run) for run in runs]
    keys = list(dict.fromkeys(key for each in facts for key in each))
    rows = [[key, *(each.get(key, "-") for each in facts)] for key in keys]
    made = table(["", *(run.name for run in runs)], rows, class_="plain")
    notes = [
        element("li", f"{run.name}: {note}" if len(runs) > 1 else note)
        for run in runs
        for note in run.notes
    ]
    missing = [element("h3", "Not in this report"), element("ul", *notes)] if notes else []
    return section("Environment", made, *missing)


def _made_with(run: Run) -> dict[str, str]:
    seconds = [s for line in run.metrics if (s := number(line.get("seconds_per_step"))) is not None]
    found = {
        key: run.header[key]
        for key in ("method", "dataset", "images_seen", "seed", "git_commit", "box_source")
        if run.header.get(key) is not None
    }
    found |= {"segan": run.header["segan_version"]} if run.header else {}
    found |= run.environment
    if seconds:
        found["seconds per step, median"] = f"{sorted(seconds)[len(seconds) // 2]:.3g}"
        steps = run.metrics[-1]["step"]
        found["minutes of training, about"] = shown(sum(seconds) / len(seconds) * steps / 60)
    return {str(key).replace("_", " "): str(value) for key, value in found.items()}
