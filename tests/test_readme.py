"""The commands that README shows do what it says, run as they stand on a small world."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest

from segan import cli
from segan.data.datasets.shapes import Shapes, ShapesConfig

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["train.images=64", "train.batch_size=8", "method.network.width=4"]
TINY = [*SHORT, "train.snapshots=0", "method.size=24", "method.discriminator.width=4"]


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = "".join(blocks).splitlines()
    return [line.partition("#")[0].strip() for line in lines]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures and boxes, and the configurations of the checkout beside them."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "PICTURES").mkdir()
    world = Shapes(ShapesConfig(size=64), "train")
    rows = ["image,x0,y0,x1,y1"]
    for index in range(6):
        sample = world[index]
        name = f"{sample.name}.png"
        cv2.imwrite(str(tmp_path / "PICTURES" / name), sample.image.permute(1, 2, 0).numpy())
        rows += [f"{name},{','.join(f'{v:g}' for v in box)}" for box in sample.boxes.tolist()]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_two_commands_are_the_install_and_the_tests():
    install, test = commands()[:2]
    assert install == "pip install -e . && python train.py"
    assert test == 'pip install -e ".[dev]" && pytest'


def test_commands_of_the_readme_run(stranger: Path, capsys: pytest.CaptureFixture[str]):
    small_world = ["data.size=64", "data.train_images=8", "data.test_images=4"]
    assert cli.main(["train", "--out", "runs/shapes", *TINY, *small_world]) == 0
    shown = [line for line in commands() if line.startswith(("python train.py ", "segan "))]
    assert len(shown) >= 10
    for line in shown:
        words = shlex.split(line)
        small = SHORT if "PICTURES" in words else TINY
        arguments = ["train", *words[2:], *small] if words[0] == "python" else words[1:]
        if arguments[0] == "export":
            # What the network has learned in eight steps is beside the point here.
            pytest.importorskip("onnxruntime")
        assert cli.main(arguments) == 0, f"{line}\n{capsys.readouterr().err}"
    assert len(list((stranger / "masks" / "masks").glob("*.png"))) == 6
    assert (stranger / "segmenter.onnx").stat().st_size > 1000
