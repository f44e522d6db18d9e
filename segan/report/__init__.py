"""`segan report`: what runs did, as one HTML page that opens from disk and needs no network.

Everything is inside the page: pictures, style and script, the last two named by their digests so
that a browser runs nothing else.
"""

from collections.abc import Sequence
from pathlib import Path

from segan.errors import ConfigError
from segan.files import written_aside
from segan.report import sections
from segan.report.curves import NUM_COLORS
from segan.report.document import document
from segan.report.examples import examples_of
from segan.report.html import Html, element
from segan.report.runs import Run, read_runs


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    examples: int = 4,
    root: Path | None = None,
    draw: bool = True,
) -> None:
    """Write a report of one run or more.

    Args:
        paths: Run directories.
        out: The page; one already there is replaced.
        examples: How many of the worst, of the median and of the best pictures are shown.
        root: Where the data is, if no longer where the runs found it.
        draw: Whether to open the data for the pictures of these.

    Raises:
        ConfigError: A path is no run, or `root` is given for runs of different data sets.
        DataError: The page cannot be written.
    """
    runs = read_runs(paths)
    kinds = {str(run.setting("data.type")) for run in runs}
    if root is not None and len(kinds) > 1:
        raise ConfigError(f"--root is one folder, but the runs are of {', '.join(sorted(kinds))}")
    found = [examples_of(run, count=examples, root=root, draw=draw) for run in runs]
    body = [
        sections.warnings(runs),
        sections.evaluation(runs),
        sections.examples(runs, found),
        sections.samples(runs),
        sections.mask_statistics(runs),
        sections.curves(runs),
        sections.configuration(runs),
        sections.environment(runs),
    ]
    with written_aside(out) as aside:
        aside.write_text(_page(runs, [part for part in body if part]), encoding="utf-8")


def _page(runs: Sequence[Run], body: Sequence[Html]) -> str:
    title = "segan: " + ", ".join(run.name for run in runs)
    return document(title, _header(runs, body), element("main", *body))


def _header(runs: Sequence[Run], body: Sequence[Html]) -> Html:
    cards = (_run_card(run, index) for index, run in enumerate(runs))
    many = f"{len(runs)} runs" if len(runs) > 1 else runs[0].name
    return element(
        "header",
        element("p", "segan report", class_="mark"),
        element("h1", many),
        element("div", *cards, class_="runs"),
        element("nav", *sections.links(body), aria_label="sections"),
    )


def _run_card(run: Run, index: int) -> Html:
    last = run.metrics[-1] if run.metrics else {}
    facts = {
        "method": run.setting("method.type", "-"),
        "data": run.setting("data.type", "-"),
        "images seen": f"{last.get('step', 0) * run.batch_size:,}",
        "seed": run.setting("train.seed", "-"),
    }
    terms = (
        element("div", element("dt", key), element("dd", str(value)))
        for key, value in facts.items()
    )
    name = element("h2", element("i", class_=f"swatch c{index % NUM_COLORS}"), run.name)
    return element("article", name, element("dl", *terms))
