"""The server over HTTP: right masks, exact thresholds, refusals of one line, only its page."""

import base64
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import export_red, picture

pytest.importorskip("fastapi", reason='needs pip install "segan[serve]"')
pytest.importorskip("httpx", reason="needs httpx, of the extra dev")
pytest.importorskip("onnxruntime", reason='needs pip install "segan[onnx]"')

from fastapi.testclient import TestClient

from segan import serve
from segan.cli import main
from segan.errors import ConfigError
from segan.formats import FORMATS
from segan.refining import REFINEMENTS, guided
from segan.serve import masks as work
from segan.serve.app import build_app
from segan.serve.masks import LEVELS, Limits, Masks, levels, open_models

BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [export_red(folder / "red.onnx"), export_red(folder / "rest.onnx", sign=-1)]


@pytest.fixture(scope="module")
def served(models) -> Masks:
    return Masks(open_models(models), Limits(megabytes=0.2, megapixels=0.01))


@pytest.fixture
def client(served) -> TestClient:
    return TestClient(build_app(served, hosts=["testserver"]), raise_server_exceptions=False)


def png(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


def ask(client: TestClient, content: bytes, path: str = "/api/mask", **parameters: Any) -> Any:
    return client.post(path, content=content, params=parameters, headers=BINARY)


def levels_of(answer: Any) -> np.ndarray:
    tree = answer.json()
    flat = np.frombuffer(base64.b64decode(tree["levels"]), np.uint8)
    return flat.reshape(tree["height"], tree["width"])


# --- masks ---------------------------------------------------------------------------------------


def test_mask_is_the_segmenters_and_the_picture_comes_back(client):
    pixels = picture()
    answer = ask(client, png(pixels))
    assert answer.status_code == 200
    red = pixels[..., 0].astype(np.float64) / 255
    np.testing.assert_allclose(levels_of(answer), np.ceil(LEVELS * red), atol=1)
    kind, _, data = answer.json()["picture"].partition(",")
    assert kind == "data:image/jpeg;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == pixels.shape
    assert "picture" not in ask(client, png(pixels), picture="false").json()


def test_second_segmenter_is_another(client):
    first, second = (levels_of(ask(client, png(picture()), model=i)).astype(int) for i in (0, 1))
    np.testing.assert_allclose(first + second, LEVELS, atol=1)
    assert (first != second).any()


@pytest.mark.parametrize("level", [0, 1, 99, 100, 101, 199])
def test_levels_are_exact_at_every_threshold(level):
    threshold = np.float32(level / LEVELS)
    near = np.array([[np.nextafter(threshold, np.float32(2)), threshold]], np.float32)
    values = np.concatenate([near, np.random.default_rng(0).random((1, 2), np.float32)], axis=1)
    # Python compares fractions of whole numbers exactly.
    exact = [[float(p) * LEVELS > level for p in row] for row in values]
    np.testing.assert_array_equal(levels(values) > level, exact)


@pytest.mark.parametrize("level", [20, 100, 180])
def test_downloaded_mask_is_the_one_on_screen(client, level):
    content = png(picture())
    on_screen = levels_of(ask(client, content)) > level
    answer = ask(client, content, "/api/file", level=level, format="masks")
    assert answer.headers["content-disposition"] == 'attachment; filename="mask.png"'
    downloaded = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(downloaded, on_screen)
    assert 0 < on_screen.mean() < 1


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_can_be_downloaded(client, name):
    answer = ask(client, png(picture()), "/api/file", format=name, name="a b.png")
    assert answer.status_code == 200
    assert len(answer.content) > 0
    assert FORMATS[name].suffix in answer.headers["content-disposition"]


@pytest.mark.parametrize("name", ["none", *REFINEMENTS])
def test_every_refinement_can_be_chosen(client, name):
    answer = ask(client, png(picture(24, 30)), refine=name)
    assert answer.status_code == 200
    assert levels_of(answer).shape == (24, 30)


def test_refinement_acts_on_the_mask_that_is_shown_and_downloaded(client):
    pixels = picture()
    mask = (pixels[..., 0] / 255).astype(np.float32)
    expected = levels(guided(pixels, mask))
    answer = ask(client, png(pixels), refine="guided")
    np.testing.assert_allclose(levels_of(answer).astype(int), expected, atol=1)
    plain = levels_of(ask(client, png(pixels)))
    assert (levels_of(answer) != plain).any()


def test_turned_picture_is_shown_and_masked_upright(client):
    pixels = picture(20, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rows are columns
    content = png(np.rot90(pixels), format="PNG", exif=exif)
    np.testing.assert_array_equal(
        levels_of(ask(client, content)), levels_of(ask(client, png(pixels)))
    )


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP"])
def test_formats_that_browsers_do_not_all_show_are_taken(client, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    answer = ask(client, png(picture(), format=kind, **options))
    np.testing.assert_array_equal(levels_of(answer), levels_of(ask(client, png(picture()))))


def test_last_answers_are_kept_and_the_oldest_go(models, monkeypatch):
    masks = Masks(open_models(models[:1]), Limits(megabytes=1, megapixels=1))
    runs = []
    run = masks._run
    monkeypatch.setattr(masks, "_run", lambda *given: runs.append(1) or run(*given))
    asked = work.Request(png(picture()), "a.png", 0, "none")
    masks.segment(asked)
    masks.encode(asked, level=3, format_name="masks")
    masks.segment(asked._replace(refinement="clean"))
    assert len(runs) == 1
    monkeypatch.setattr(work, "_MOST_KEPT", 10)
    masks.segment(asked._replace(content=png(picture(10, 10))))
    assert len(masks._kept) == 1
    masks.segment(asked)
    assert len(runs) == 3


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "parameters", "status", "said"),
    [
        (b"", {}, 422, "the file is empty"),
        (b"no picture", {}, 422, "cannot read evil<b>.png: not a JPEG, PNG, TIFF, BMP or WebP"),
        (png(picture())[:400], {}, 422, "cannot read evil<b>.png"),
        (png(np.zeros((200, 200, 3), np.uint8)), {}, 422, "0.04 megapixels, the limit 0.01"),
        (bytes(200_001), {}, 413, "the file is larger than 0.2 megabytes"),
        (png(picture()), {"model": 2}, 400, "no segmenter number 2"),
        (png(picture()), {"model": -1}, 400, "no segmenter number -1"),
        (png(picture()), {"model": "x"}, 400, "model: "),
        (png(picture()), {"refine": "magic"}, 400, "no refinement 'magic'"),
        (png(picture()), {"name": "n" * 301}, 400, "name: "),
    ],
)
def test_bad_request_is_one_clear_line(client, content, parameters, status, said):
    answer = ask(client, content, **{"name": "evil<b>.png", **parameters})
    assert answer.status_code == status
    message = answer.json()["error"]
    assert said in message
    assert "\n" not in message
    assert "/tmp" not in message


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"format": "exe"}, "no format 'exe'"), ({"level": 200}, "from 0 to 199")],
)
def test_bad_download_is_one_clear_line(client, parameters, said):
    answer = ask(client, png(picture()), "/api/file", **parameters)
    assert (answer.status_code, said in answer.json()["error"]) == (400, True)


def test_failing_segmenter_is_one_clear_line(client, served, monkeypatch):
    def fail(_images: object) -> None:
        raise RuntimeError("Failed to allocate memory\nfor requested buffer")

    monkeypatch.setattr(served.models[0].segmenter, "forward", fail)
    answer = ask(client, png(picture(31, 17)))
    assert answer.status_code == 422
    assert (
        answer.json()["error"]
        == "the segmenter failed on 17 x 31 pixels: Failed to allocate memory"
    )


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        (MemoryError(), 422, "the server has not enough memory for this picture"),
        (ZeroDivisionError(), 500, "this went wrong in the server; what it prints says why"),
    ],
)
def test_what_nobody_thought_of_is_one_line_too(client, monkeypatch, wrong, status, said):
    def fails(*_: Any) -> Any:
        raise wrong

    monkeypatch.setattr(Masks, "segment", fails)
    answer = ask(client, png(picture()))
    assert (answer.status_code, answer.json()) == (status, {"error": said})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["../../x.png", "..", "a\\b.png", "a\nb", "", "\0", "x" * 300])
@pytest.mark.parametrize("format_name", ["cvat", "labelme", "coco"])
def test_any_name_of_a_picture_is_only_text(client, name, format_name):
    answer = ask(client, png(picture()), "/api/file", name=name, format=format_name)
    assert answer.status_code == 200
    if format_name == "cvat":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            for entry in archive.namelist():
                assert entry.isprintable()
                assert not {"", ".", ".."} & set(entry.replace("\\", "/").split("/"))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/../app.py", "/..%2fapp.py", "/static/index.html", "/app.py", "/docs", "/api"],
)
def test_nothing_but_the_page_is_served(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "", "a\x00b", "\udce9x"])
def test_names_are_words_and_never_paths(client, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(UnicodeEncodeError):  # a client that cannot say it
        answer = ask(client, png(picture()), "/api/file", name=name, format="coco")
        assert answer.status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_other_sites_are_kept_out(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    # What a form of another site could send without asking.
    answer = client.post(
        "/api/mask", content=png(picture()), headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = client.options("/api/mask", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers


def test_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for path in ("/", "/app.css", "/app.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert "innerHTML" not in answer.text


def test_page_is_told_what_there_is(client):
    info = client.get("/api/info").json()
    assert [model["name"] for model in info["models"]] == ["red", "rest"]
    assert [found["name"] for found in info["formats"]] == list(FORMATS)
    assert info["refinements"] == ["none", *REFINEMENTS]
    assert (info["max_bytes"], info["max_megapixels"]) == (200_000, 0.01)


# --- starting ------------------------------------------------------------------------------------


def test_only_exported_files_are_loaded(tmp_path, models, capsys):
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    (tmp_path / "segmenter.safetensors").write_bytes(b"")
    for given, said in (
        ([tmp_path / "none.onnx"], "cannot read model"),
        ([tmp_path / "junk.onnx"], "is not an ONNX model"),
        ([tmp_path / "segmenter.safetensors"], "is no exported file; segan export RUN"),
        ([models[0], models[0]], "named twice"),
    ):
        assert main(["serve", *map(str, given)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_models_of_one_name_are_told_apart(tmp_path, models):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "red.onnx")
        paths[-1].write_bytes(models[0].read_bytes())
    assert [model.name for model in open_models(paths)] == ["a/red", "b/red"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-megabytes", "0"], "--max-megabytes is 0.0; it must be above 0"),
        (["--max-megapixels", "nan"], "it must be above 0"),
        (["--port", "70000"], "--port is 70000; it must be from 0 to 65535"),
        (["--host", "203.0.113.7", "--port", "0"], "cannot listen on 203.0.113.7"),
    ],
)
def test_bad_options_are_one_clear_line(models, capsys, arguments, said):
    assert main(["serve", str(models[0]), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_port_in_use_is_one_clear_line(models, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", str(models[0]), "--port", str(port)]) == 2
    assert f"port {port}: Address already in use; give another --port" in capsys.readouterr().err


def test_missing_packages_are_one_clear_line(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        ConfigError, match=r'needs the package uvicorn: pip install "segan\[serve\]"'
    ):
        serve.serve(models)


def test_loopback_servers_answer_to_loopback_names_alone():
    for host in ("127.0.0.1", "localhost", "::1"):
        assert "*" not in serve._hosts(host)
    assert serve._hosts("0.0.0.0") == ["*"]


@pytest.fixture
def process(models) -> Iterator[tuple[subprocess.Popen[str], str]]:
    program = "import sys; from segan.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "serve", str(models[0]), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert running.stdout is not None
    try:
        yield running, running.stdout.readline().split()[0]
    finally:
        running.kill()
        running.wait()


def test_command_prints_its_address_serves_there_and_ends_by_interrupt(process):
    import httpx

    running, address = process
    assert address.startswith("http://127.0.0.1:")
    answer = httpx.post(f"{address}/api/mask", content=png(picture()), headers=BINARY, timeout=60)
    assert answer.status_code == 200
    assert levels_of(answer).shape == (60, 90)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=60) == 0
