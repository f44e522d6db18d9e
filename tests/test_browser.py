"""The pages in a real browser, as people use them: Debian's Chromium, headless."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import export_red, picture, save
from test_report import make_run

from segan.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
pytest.importorskip("fastapi", reason='needs pip install "segan[serve]"')
pytest.importorskip("onnxruntime", reason='needs pip install "segan[onnx]"')

HOSTILE = "<img src=x onerror=window.hacked=1>.png"

# Of a drawn canvas: how many pixels are not transparent, and its size.
DRAWN = """canvas => {
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let count = 0;
  for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 0;
  return { width, height, count };
}"""
DROP = """([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  document.querySelector("#drop").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        # The sandbox needs rights that containers lack; the pages are our own.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    files = [export_red(folder / "red.onnx"), export_red(folder / "rest.onnx", sign=-1)]
    program = "import sys; from segan.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--port", "0", "--max-megabytes", "0.2", "--max-megapixels", "0.1"]
    command = [sys.executable, "-c", program, "serve", *map(str, files), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert server.stdout is not None
    yield server.stdout.readline().split()[0]
    server.kill()
    server.wait()


class Visit:
    """A page, what it asked for, and what it complained of."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto(url)

    def _listen(self, message: Any) -> None:
        # A refused request is told of in the page; the browser's own note is no fault.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def fits(self) -> bool:
        """Whether nothing has to be scrolled sideways to."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    opened = Visit(browser, address, viewport={"width": 1280, "height": 900})
    opened.page.wait_for_selector("body[data-ready]")
    yield opened
    opened.context.close()
    assert opened.errors == []
    assert all(url.startswith((address, "data:", "blob:")) for url in opened.asked)


def drop_in(visit: Visit, *paths: Path) -> None:
    """Choose files and wait until their masks are there."""
    visit.page.set_input_files("#choose", [str(path) for path in paths])
    visit.page.wait_for_function(
        """count => document.querySelectorAll(".area").length >= count &&
        [...document.querySelectorAll(".area")].every((each) => each.textContent)""",
        arg=len(paths),
    )


# --- serve ---------------------------------------------------------------------------------------


def test_upload_mask_and_download(visit, tmp_path):
    pixels = picture()
    drop_in(visit, save(tmp_path / "a picture.png", pixels))
    red = pixels[..., 0] / 255
    drawn = visit.page.eval_on_selector("canvas", DRAWN)
    assert (drawn["height"], drawn["width"]) == red.shape
    assert drawn["count"] == np.count_nonzero(red > 0.5)
    label = visit.page.get_attribute("canvas", "aria-label")
    assert label == f"mask of a picture.png by red: {100 * (red > 0.5).mean():.1f} % of the picture"

    # The threshold is moved by keys, and the mask follows without a request.
    before = len(visit.asked)
    visit.page.focus("#threshold")
    for _ in range(40):
        visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_function(
        """() => document.querySelector("#threshold-value").textContent === "0.700" """
    )
    assert visit.page.eval_on_selector("canvas", DRAWN)["count"] == np.count_nonzero(red > 0.7)
    assert len(visit.asked) == before

    with visit.page.expect_download() as waiting:
        visit.page.click("button.download")
    assert waiting.value.suggested_filename == "a picture.masks.png"
    downloaded = np.asarray(Image.open(waiting.value.path()))
    np.testing.assert_array_equal(downloaded, red > 0.7)

    visit.page.select_option("#format", "coco")
    with visit.page.expect_download() as waiting:
        visit.page.click("button.download")
    tree = json.loads(Path(waiting.value.path()).read_text())
    assert tree["images"][0]["file_name"] == "a picture.png"
    assert tree["annotations"][0]["area"] == np.count_nonzero(red > 0.7)


def test_refinement_changes_the_mask_on_screen(visit, tmp_path):
    drop_in(visit, save(tmp_path / "a.png", picture()))
    before = visit.page.evaluate("cards[0].stages[0].levels.join()")
    with visit.page.expect_response("**/api/mask*"):
        visit.page.select_option("#refine", "guided")
    visit.page.wait_for_function(
        "before => cards[0].stages[0].levels.join() !== before", arg=before
    )


def test_two_segmenters_stand_side_by_side(visit, tmp_path):
    drop_in(visit, save(tmp_path / "a.png", picture()), save(tmp_path / "b.png", picture(30, 20)))
    visit.page.select_option("#compare", label="rest")
    visit.page.wait_for_function(
        """() => document.querySelectorAll(".area").length === 4 &&
        [...document.querySelectorAll(".area")].every((each) => each.textContent)"""
    )
    counts = [stage.evaluate(DRAWN)["count"] for stage in visit.page.query_selector_all("canvas")]
    assert counts[0] + counts[1] == 60 * 90
    assert counts[2] + counts[3] == 30 * 20
    boxes = [stage.bounding_box() for stage in visit.page.query_selector_all(".stage")]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_dropped_picture_is_taken_and_can_be_removed(visit, tmp_path):
    import base64

    content = save(tmp_path / "a.png", picture()).read_bytes()
    visit.page.evaluate(DROP, ["dropped.png", base64.b64encode(content).decode()])
    visit.page.wait_for_function("""() => document.querySelector(".area")?.textContent""")
    assert visit.page.text_content(".card h3") == "dropped.png"
    visit.page.click("button.remove")
    assert visit.page.query_selector(".card") is None


def test_bad_files_are_told_of_and_good_ones_stay(visit, tmp_path):
    bad, large = tmp_path / HOSTILE, tmp_path / "large.png"
    bad.write_text("no picture")
    large.write_bytes(bytes(300_000))
    wide = save(tmp_path / "wide.png", np.zeros((400, 400, 3), np.uint8))
    good = save(tmp_path / "good.png", picture())
    visit.page.set_input_files("#choose", [str(path) for path in (bad, large, wide, good)])
    visit.page.wait_for_function(
        """() => document.querySelectorAll("#problems li").length === 3 &&
        document.querySelector(".area")?.textContent"""
    )
    lines = visit.page.locator("#problems li span").all_text_contents()
    assert sorted(lines) == sorted(
        [
            f"cannot read {HOSTILE}: not a JPEG, PNG, TIFF, BMP or WebP picture",
            "large.png: the file is larger than 0.2 megabytes",
            "cannot read wide.png: 400 x 400 is 0.16 megapixels, the limit 0.1",
        ]
    )
    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.locator(".card").count() == 1


def test_everything_can_be_reached_by_keys(visit, tmp_path):
    drop_in(visit, save(tmp_path / "a.png", picture()))
    visit.page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(20):
        visit.page.keyboard.press("Tab")
        reached.add(
            visit.page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert reached >= {
        *("choose", "model", "compare", "refine", "view", "threshold", "format"),
        *("download-all", "clear", "quiet remove", "download"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_fits_any_screen(browser, address, tmp_path, width, scheme):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    opened = Visit(browser, address, **options)
    opened.page.wait_for_selector("body[data-ready]")
    drop_in(opened, save(tmp_path / f"{'long' * 30}.png", picture()))
    opened.page.select_option("#compare", label="rest")
    opened.page.wait_for_function("""() => document.querySelectorAll(".area").length === 2""")
    assert opened.fits()
    opened.context.close()


# --- report --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    runs = [make_run(folder, name=name) for name in (HOSTILE, "second")]
    write_report(runs, folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_report_opens_from_disk_and_asks_for_nothing(browser, page_file, width):
    url = page_file.as_uri()
    opened = Visit(browser, url, viewport={"width": width, "height": 844})
    assert opened.fits()
    assert [each for each in opened.asked if not each.startswith("data:")] == [url]
    assert opened.page.evaluate("window.hacked") is None
    # Its own style and script pass its own policy.
    assert opened.errors == []
    opened.context.close()


def test_slider_of_the_report_moves_through_training(browser, page_file):
    opened = Visit(browser, page_file.as_uri())
    strip = opened.page.locator(".strip").first
    assert strip.locator("output").text_content() == "step 4, 32 images"
    strip.locator("input").focus()
    opened.page.keyboard.press("ArrowLeft")
    assert strip.locator("output").text_content() == "step 0, 0 images"
    visible = [panel.is_visible() for panel in strip.locator("img").all()]
    assert visible == [True, False]
    opened.context.close()


def test_charts_of_the_report_are_read_by_pointer_and_keys(browser, page_file):
    opened = Visit(browser, page_file.as_uri())
    figure = opened.page.locator(".chart").first
    assert not figure.locator(".cross").is_visible()
    drawing = figure.locator("svg")
    drawing.focus()
    opened.page.keyboard.press("ArrowLeft")
    assert figure.locator(".reading").text_content() == f"24 images: {HOSTILE} 0.25, second 0.25"
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 40)
    assert "32 images" in figure.locator(".reading").text_content()
    opened.context.close()
