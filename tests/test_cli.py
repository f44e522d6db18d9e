"""The command line as a stranger meets it: every mistake is one line, and nothing is written."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segan import __version__, config
from segan.checkpoint import load_segmenter
from segan.cli import main
from segan.data.splits import split_of
from segan.run_configs import CONFIGS
from segan.training.config import RunConfig

BOXES = "image,x0,y0,x1,y1\n"

# The smallest run that is one: two steps on eight pictures of the shapes world.
TINY = [
    *("data.size=48", "data.train_images=8", "data.test_images=4"),
    *("method.size=16", "method.network.width=4", "method.network.depth=1"),
    *("method.discriminator.width=4", "method.discriminator.depth=2"),
    *("train.images=8", "train.batch_size=4", "train.log_every=1", "train.precision=fp32"),
]
FOLDER = [
    *("method={type: cut_paste, size: 16, network: {width: 4, depth: 1}}", "data.type=folder"),
    *("method.discriminator={width: 4, depth: 2}", "train={images: 8, batch_size: 4}"),
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, the default --out among them, lie in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below, with what is in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail, leaving everything as it was; its one line without prefix."""

    def run(*arguments: object, code: int = 2) -> str:
        before = contents(tmp_path)
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        captured = capsys.readouterr()
        *notes, line = captured.err.splitlines()
        assert line.startswith("error: "), captured.err
        assert all(note.startswith("skipped ") for note in notes), captured.err
        assert captured.out == ""
        assert contents(tmp_path) == before
        return line.removeprefix("error: ")

    return run


def save_picture(path: Path, size: tuple[int, int] = (40, 40), seed: int = 0) -> Path:
    """A picture of (height, width) of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures and a file of boxes, one box each, with room for a background."""
    for index in range(3):
        save_picture(tmp_path / "pictures" / f"{index}.png", seed=index)
    lines = [f"{index}.png,4,4,12,12\n" for index in range(3)]
    (tmp_path / "boxes.csv").write_text(BOXES + "".join(lines))
    return tmp_path / "pictures"


@pytest.fixture
def folder_config(tmp_path: Path, pictures: Path) -> Path:
    path = tmp_path / "folder.yaml"
    tree = config.override({}, FOLDER)
    tree["data"] |= {"root": str(pictures), "boxes": str(tmp_path / "boxes.csv")}
    path.write_text(config.to_yaml(tree))
    return path


def box(corners: str) -> str:
    return BOXES + f"0.png,{corners}\n"


# --- usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["trian"],
        ["train", "--ouput", "x"],
        ["train", "a.yaml", "b.yaml", "--out"],
        ["evaluate", "otsu"],
        ["evaluate", "otsu", "--data", "shapes", "--split", "tset"],
        ["evaluate", "otsu", "--data", "shapes", "--limit", "many"],
        ["predict", "model"],
        ["export", "model", "--out", "a.onnx", "--format", "tflite"],
        ["predict", "model", "pictures", "--out", "a", "key=value"],
        ["predict", "model", "pictures", "--out", "a", "--format", "gif"],
        ["predict", "model", "pictures", "--out", "a", "--refine", "sharpen"],
        ["predict", "model", "pictures", "--out", "a", "--min-area", "few"],
    ],
)
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "export"])
def test_help_shows_how_to_run_it(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"  segan {verb} " in text
    assert max(map(len, text.splitlines())) <= 100


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("segan 0.")


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trian.images=5", "unknown key 'trian'; did you mean 'train'?"),
        ("train.imagse=5", "unknown key 'train.imagse'; did you mean 'images'?"),
        ("method.weights.ct=5", "unknown key 'method.weights.ct'; did you mean 'cut'?"),
        ("train.images=many", "'train.images' is 'many'; it must be a valid integer"),
        ("train.images=0", "'train.images' is 0; it must be greater than or equal to 1"),
        ("train.images=true", "'train.images' is true or false; it must be a number"),
        ("train=5", "'train' is 5; it must be a mapping of keys to values"),
        ("train.precision=fp8", "'train.precision' is 'fp8'; "),
        ("data.type=shpes", "'data.type' is 'shpes'; did you mean 'shapes'?"),
        ("data.type=folder", "'data.root' is required and has no default"),
        ("data.size=8", "'data.size' is 8; it must be greater than or equal to 32"),
        ("method.type=cyclegan", "'method.type' is 'cyclegan'; valid: cut_paste"),
    ],
)
def test_wrong_settings_are_one_line(override, expected, refusal):
    line = refusal("train", override, "--out", "run")
    assert expected in line
    assert "shapes.yaml with overrides: " in line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["--method", "cyclegan"],
            "there is no method 'cyclegan'; valid: cut_paste, wnet, iic, ",
        ),
        (["--method", "iic"], "--method iic is for a folder of images"),
        (["train.images.a=5"], "train.images.a: 'images' is a value, it has no keys below it"),
        (["train..images=5"], "cannot read 'train..images=5': an override is key.sub=value"),
        (["train.images=[5"], "override train.images, line 1: not valid YAML: "),
        (
            ["method.weights.paste=0", "method.weights.cut=0"],
            "'method.weights': paste, cut or presence must be above 0",
        ),
        (
            ["method.guards.border=30"],
            "'method.guards.border' is 30; it must be less than half of 'method.size', 16",
        ),
        (
            ["method.discriminator.depth=6"],
            "a discriminator of depth 6 is too deep for images of 16 pixels; "
            "its depth can be at most 4",
        ),
        (["train.optimizers.generatr.lr=1e-3"], "'train.optimizers.generatr'"),
        (
            ["method={type: wnet, size: 16, radius: 17}"],
            "'method.radius' is 17; it must be at most 'method.size', 16",
        ),
        (
            ["method={type: iic, size: 16, radius: 16}"],
            "'method.radius' is 16; it must be less than 'method.size', 16",
        ),
        (["method={type: iic, num_overclusters: 1}"], "it must be 0 (none) or at least 2"),
        (["method={type: wnet, num_regions: 1}"], "'method.num_regions' is 1; it must be greater"),
        (["method={type: iic, num_regions: 256}"], "'method.num_regions' is 256; it must be less"),
        (["train.micro_batch=3"], "'train.micro_batch' is 3; it must divide the 4 images"),
        (
            ["method.size=64"],
            "every picture of shapes is smaller than the windows of 64 pixels ('method.size'); "
            "the largest has 48",
        ),
    ],
)
def test_settings_that_cannot_work_together_are_one_line(overrides, expected, refusal):
    assert expected in refusal("train", *TINY, "--out", "run", *overrides)


def test_configs_that_cannot_be_read(tmp_path, refusal):
    assert refusal("train", "none.yaml") == "there is no config file or folder of images none.yaml"
    (tmp_path / "twice.yaml").write_text("train: {seed: 1}\ntrain: {seed: 2}\n")
    expected = "twice.yaml, line 2: key 'train' is given twice; keep one"
    assert refusal("train", "twice.yaml") == expected
    (tmp_path / "code.yaml").write_text("train: !!python/name:os.system\n")
    assert refusal("train", "code.yaml").startswith("code.yaml, line 1: not valid YAML: could not")
    (tmp_path / "empty.yaml").write_text("")
    assert refusal("train", "empty.yaml") == (
        "empty.yaml: 'method' is required and has no default (and 1 more)"
    )
    save_picture(tmp_path / "picture.png")
    assert "picture.png" in refusal("train", "picture.png")


@pytest.mark.parametrize("method", ["wnet", "iic"])
@pytest.mark.parametrize(
    ("side", "size", "scale"), [(384, 64, 0.25), (96, 64, 1.0), (60, 32, 1.0), (20, 16, 1.0)]
)
def test_a_folder_of_images_is_trained_on_at_a_scale_that_fits(
    tmp_path, method, side, size, scale, capsys
):
    for index in range(3):
        save_picture(tmp_path / "own" / f"{index}.png", (side, side + 9 * index), seed=index)
    assert main(["train", str(tmp_path / "own"), "--method", method, "--dry-run"]) == 0
    tree = config.parse_yaml(capsys.readouterr().out, "printed")
    assert tree["method"]["type"] == method
    assert tree["data"] == tree["data"] | {"type": "folder", "root": str(tmp_path / "own")}
    assert (tree["method"]["size"], tree["method"]["scale"]) == (size, scale)


@pytest.mark.parametrize(
    ("side", "given", "size", "scale"),
    [
        (576, [], 96, 0.25),
        (60, [], 32, 1.0),
        (576, ["method.view.size=48"], 48, 0.125),
        (576, ["method.view.scale=0.5"], 96, 0.5),
    ],
)
def test_what_is_recommended_for_a_folder_sees_it_at_a_scale_that_fits(
    tmp_path, side, given, size, scale, capsys
):
    save_picture(tmp_path / "own" / "0.png", (side, side), seed=0)
    assert main(["train", str(tmp_path / "own"), *given, "--dry-run"]) == 0
    method = config.parse_yaml(capsys.readouterr().out, "printed")["method"]
    assert (method["type"], method["teacher"]) == ("self_training", "otsu")
    assert (method["view"]["size"], method["view"]["scale"]) == (size, scale)


def test_a_folder_is_trained_with_the_recommended_method_and_its_masks_written(
    pictures, tmp_path, capsys
):
    small = ["method.network.width=4", "train.images=16"]
    assert main(["train", str(pictures), *small, "--out", str(tmp_path / "run")]) == 0
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "run"), str(pictures), "--out", str(out)]) == 0
    assert list((out / "masks").rglob("*.png"))
    capsys.readouterr()


@pytest.mark.parametrize("method", ["iic", "redo", "shift", "wnet"])
def test_a_method_without_windows_fits_its_scale_to_the_pictures(method, pictures, capsys):
    """The median of the shorter sides is one and a half parts, whatever the file says."""
    for path in pictures.iterdir():
        Image.fromarray(np.zeros((200, 240, 3), np.uint8)).save(path)
    assert main(["train", str(pictures), "--method", method, "--dry-run"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)["method"]
    assert found["scale"] == pytest.approx(1.5 * found["size"] / 200, abs=1e-3)


def test_few_object_free_pictures_are_told_and_the_unreadable_named_by_their_folder(
    pictures, tmp_path, capsys
):
    empty = tmp_path / "empty"
    for index in range(3):
        save_picture(empty / f"{index}.png", seed=7 + index)
    (empty / "broken.png").write_bytes(b"not a picture")
    given = ["--method", "copy_paste", f"data.backgrounds={empty}", "method.network.width=4"]
    given += ["method.guards.head_start=0"]
    sizes = ["method.size=16", "train.images=4", "train.batch_size=4", "--out", "run"]
    assert main(["train", str(pictures), *given, *sizes]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert f"skipped {empty}/broken: not a JPEG, PNG, TIFF, BMP or WebP picture" in errors
    assert [line for line in errors if line.startswith("warning: ")] == [
        "warning: pictures to train on: 3, fewer than 'train.batch_size', 4; "
        "a batch shows some of them more than once",
        "warning: object-free pictures to train on: 3, fewer than 'train.batch_size', 4; "
        "a batch shows some of them more than once",
        "warning: 'train.health' asks for fresh starts or a stop after 6 checks of collapse, but a "
        "run of this length has 0; give more 'train.images', or a smaller 'every', 'grace' or "
        "'stop_after'",
    ]


def test_seigan_on_a_folder_sees_the_largest_square_of_each_picture(pictures, tmp_path, capsys):
    backgrounds = f"data.backgrounds={tmp_path / 'empty'}"
    assert main(["train", str(pictures), "--method", "seigan", backgrounds, "--dry-run"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["method"]["type"], printed["method"]["scale"]) == ("seigan", None)
    assert printed["data"]["root"] == str(pictures)


@pytest.mark.parametrize("given", [True, False])
def test_copy_paste_copies_onto_the_pictures_there_are(pictures, tmp_path, capsys, given):
    copying = ["train", str(pictures), "--method", "copy_paste", "--dry-run"]
    backgrounds = [f"data.backgrounds={tmp_path / 'empty'}"] if given else []
    assert main([*copying, *backgrounds]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["method"]["destinations"] == ("backgrounds" if given else "pictures")
    assert (printed["data"]["backgrounds"] is not None) == given


def test_object_free_pictures_that_are_not_looked_at_are_told(pictures, tmp_path, capsys):
    save_picture(tmp_path / "empty" / "0.png", seed=7)
    small = ["method.network.width=4", "method.size=16", "method.guards.border=1"]
    given = ["method.destinations=pictures", f"data.backgrounds={tmp_path / 'empty'}"]
    short = ["train.images=2", "train.batch_size=2", "--out", "run"]
    assert main(["train", str(pictures), "--method", "copy_paste", *small, *given, *short]) == 0
    errors = capsys.readouterr().err
    assert "warning: 'data.backgrounds' is given, but not looked at by copy_paste" in errors
    # All of it is the discriminator's head start.
    assert "warning: 'train.images', 2, ends before the segmenter is first trained" in errors
    assert load_segmenter(Path("run")).segmenter.foreground is None
    assert main(["train", str(pictures), "--method", "copy_paste", "data=5"]) == 2


def test_a_folder_and_another_as_data_root_is_one_too_many(pictures, capsys):
    assert main(["train", str(pictures), "data.root=elsewhere", "--dry-run"]) == 2
    problem = f"error: data.root=elsewhere is given beside the folder {pictures}; give one of them"
    assert capsys.readouterr().err.splitlines() == [problem]
    assert main(["train", str(pictures), f"data.root={pictures}/../pictures", "--dry-run"]) == 0


def test_a_misspelt_setting_is_named_before_a_placeholder(refusal):
    config = CONFIGS / "seigan" / "folder_reconstructed.yaml"
    assert "unknown key 'data.background'; did you mean 'backgrounds'?" in refusal(
        "train", config, "data.background=here"
    )


def test_pictures_that_a_teacher_cannot_read_are_named(pictures, tmp_path, capsys):
    (pictures / "broken.png").write_bytes(b"not a picture")
    small = ["method.network.width=4", "train.images=16"]
    assert main(["train", str(pictures), *small, "--out", str(tmp_path / "run")]) == 0
    errors = capsys.readouterr().err
    assert "skipped broken: not a JPEG, PNG, TIFF, BMP or WebP picture" in errors
    assert "skipped 1 picture in all" in errors


def test_a_method_without_settings_for_folders_is_refused(pictures, refusal):
    assert refusal("train", pictures, "--method", "gan") == (
        "no method 'gan' for folders; one of copy_paste, cut_paste, iic, redo, seigan, "
        "self_training, shift, wnet"
    )


def test_dry_run_prints_the_resolved_config_and_writes_nothing(tmp_path, capsys):
    arguments = ["train", *TINY, "train.optimizers.generator.lr=1e-4", "--dry-run", "data.seed=3"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert contents(tmp_path) == {}
    (tmp_path / "resolved.yaml").write_text(printed)
    tree = config.read_tree(tmp_path / "resolved.yaml")
    run = config.build(RunConfig, tree)
    assert config.as_tree(run) == tree
    assert (run.train.images, run.train.optimizers["generator"].lr) == (8, 1e-4)
    assert tree["data"] | {"size": 48, "seed": 3} == tree["data"]
    assert main(["train", "resolved.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == printed


# --- data ----------------------------------------------------------------------------------------


def test_missing_and_empty_folders(tmp_path, folder_config, refusal):
    line = refusal("train", folder_config, "data.root=nowhere", "--out", "run")
    assert line == "data.root: nowhere does not exist"
    (tmp_path / "empty").mkdir()
    line = refusal("train", folder_config, "data.root=empty", "--out", "run")
    assert line.startswith("data.root: no images in empty (looked for ")
    line = refusal("train", folder_config, "data.boxes=nowhere.csv", "--out", "run")
    assert line == "boxes: nowhere.csv does not exist"


def test_a_method_that_needs_boxes_says_so(folder_config, refusal):
    line = refusal("train", folder_config, "data.boxes=null", "--out", "run")
    assert line == "cut_paste needs boxes; data set 'folder' provides images"


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ("4,4,4,12", "(4, 4, 4, 12), has no area"),
        ("12,4,4,12", "(12, 4, 4, 12), has no area"),
        ("50,4,60,12", "(50, 4, 60, 12), lies outside the picture of 40 x 40"),
        ("-30,4,5,12", "(-30, 4, 5, 12), lies outside the picture of 40 x 40"),
        ("nan,4,5,12", "(nan, 4, 5, 12), is not finite"),
        ("4,4,4.5,12", "(4, 4, 4.5, 12), covers less than a pixel"),
    ],
)
def test_boxes_outside_or_without_area_are_named(
    corners, expected, tmp_path, folder_config, refusal
):
    (tmp_path / "boxes.csv").write_text(box(corners))
    line = refusal("train", folder_config, "--out", "run")
    assert line.startswith(f"box 1 of picture 0, {expected}")


def test_boxes_that_cannot_be_read_or_fit_no_picture(tmp_path, folder_config, refusal):
    (tmp_path / "boxes.csv").write_text(box("a,b,c,d"))
    assert "line 2" in refusal("train", folder_config, "--out", "run")
    (tmp_path / "boxes.csv").write_text("name,left\n")
    assert "expected image,x0,y0,x1,y1" in refusal("train", folder_config, "--out", "run")
    (tmp_path / "boxes.csv").write_text(BOXES + "other.png,4,4,12,12\n")
    line = refusal("train", folder_config, "--out", "run")
    assert "none of the 1 names (such as other.png)" in line


def test_pictures_smaller_than_the_window(tmp_path, folder_config, refusal):
    for index in range(3):
        save_picture(tmp_path / "pictures" / f"{index}.png", (15, 40))
    assert refusal("train", folder_config, "--out", "run") == (
        "every picture of folder is smaller than the windows of 16 pixels ('method.size'); "
        "the largest has 15"
    )


def test_nothing_left_to_train_on_exits_with_3(tmp_path, folder_config, refusal):
    (tmp_path / "boxes.csv").write_text(box("0,0,40,40"))
    assert refusal("train", folder_config, "--out", "run", code=3) == (
        "nothing to train on in folder: 0, box 1: "
        "no room for a background window beside the objects"
    )
    (tmp_path / "boxes.json").write_text(
        '{"images": [{"id": 1, "file_name": "0.png"}], "annotations": []}'
    )
    line = refusal("train", folder_config, "data.boxes=boxes.json", "--out", "run", code=3)
    assert line == "nothing to train on in folder: its pictures have no boxes"


def test_unreadable_pictures_end_the_run_when_they_are_all(tmp_path, folder_config, refusal):
    for index in range(3):
        (tmp_path / "pictures" / f"{index}.png").write_bytes(b"not a picture")
    line = refusal("train", folder_config, "--out", "run", code=3)
    assert line.startswith(f"none of the 3 images in {tmp_path / 'pictures'} can be read: 0 (")


def test_an_empty_held_out_split_is_found_before_training(tmp_path, folder_config, refusal):
    """There are masks, so it would be scored afterwards, hours later."""
    for index in (1, 2):
        (tmp_path / "pictures" / f"{index}.png").unlink()
    name = next(str(number) for number in range(99) if split_of(str(number)) == "train")
    (tmp_path / "pictures" / "0.png").rename(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "boxes.csv").write_text(f"{BOXES}{name}.png,4,4,12,12\n")
    save_picture(tmp_path / "masks" / f"{name}.png")
    for empty in ("dev", "test"):
        arguments = ("data.masks=masks", f"evaluation.split={empty}", "--out", "run")
        line = refusal("train", folder_config, *arguments, code=3)
        assert f"falls into the split '{empty}'" in line


def test_objects_without_room_and_unreadable_pictures_are_named_and_counted(
    tmp_path, folder_config, capsys
):
    (tmp_path / "pictures" / "broken.png").write_bytes(b"not a picture")
    lines = [f"{index}.png,4,4,12,12\n" for index in range(2)] + ["2.png,0,0,40,40\n"]
    (tmp_path / "boxes.csv").write_text(BOXES + "".join(lines))
    assert main(["train", str(folder_config), "--out", "run"]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith("skipped ")] == [
        "skipped broken: not a JPEG, PNG, TIFF, BMP or WebP picture",
        "skipped 1 picture in all",
        "skipped 1 of 3 objects; the first: 2, box 1: "
        "no room for a background window beside the objects",
    ]
    assert [line for line in errors if line.startswith("warning: ")] == [
        "warning: objects to train on: 2, fewer than 'train.batch_size', 4; "
        "a batch shows some of them more than once"
    ]
    assert (tmp_path / "run" / "segmenter.safetensors").exists()
    assert not (tmp_path / "run" / "evaluation.json").exists()  # there is nothing to score


# --- the run directory ---------------------------------------------------------------------------


def test_an_out_that_is_someone_elses(tmp_path, refusal):
    (tmp_path / "file").write_text("mine")
    assert refusal("train", *TINY, "--out", "file") == "--out file: file is a file; name a folder"
    line = refusal("train", *TINY, "--out", "file/run")
    assert line == "--out file/run: file is a file; name a folder"
    (tmp_path / "photos").mkdir()
    save_picture(tmp_path / "photos" / "a.png")
    expected = "--out photos holds files that are not a segan run; name another folder"
    for flags in ([], ["--overwrite"]):
        assert refusal("train", *TINY, "--out", "photos", *flags) == expected
        # Another program's config.yaml does not make it a run.
        (tmp_path / "photos" / "config.yaml").write_text("theme: dark\n")
        assert refusal("train", *TINY, "--out", "photos", *flags) == expected


def test_out_inside_a_folder_of_training_pictures_is_refused(folder_config, refusal):
    line = refusal("train", folder_config, "--out", "pictures/runs/a")
    assert line.startswith("--out pictures/runs/a lies inside data.root, ")


def test_out_may_be_an_empty_folder(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert main(["train", *TINY, "evaluation.split=none", "--out", "run"]) == 0
    assert (tmp_path / "run" / "config.yaml").exists()
    assert "segmenter: run/segmenter.safetensors" in capsys.readouterr().out


# --- from end to end -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *TINY, "--out", str(out)]) == 0
    return out


def test_train_leaves_a_run(run, capsys):
    names = {path.name for path in run.iterdir()}
    assert names >= {
        *("config.yaml", "metrics.jsonl", "samples", "state", "segmenter.safetensors"),
        *("evaluation.json", "evaluation.csv", "health.jsonl", "environment.json"),
    }
    # The same command finds nothing left to do, and scores again.
    stamp = (run / "segmenter.safetensors").stat().st_mtime_ns
    assert main(["train", *TINY, "--out", str(run)]) == 0
    printed = capsys.readouterr().out
    assert (run / "segmenter.safetensors").stat().st_mtime_ns == stamp
    assert "boxes in training: procedural" in printed
    assert json.loads((run / "evaluation.json").read_text())["train_box_source"] == "procedural"
    assert "windows around boxes" in printed
    assert "whole pictures" in printed
    assert max(len(line) for line in printed.splitlines() if "runs" not in line) <= 80


def test_another_configuration_is_refused_or_overwrites(run, refusal, tmp_path):
    own = shutil.copytree(run, tmp_path / "own")
    line = refusal("train", *TINY, "train.seed=7", "--out", "own")
    assert line == (
        "--out own holds a run with another configuration (it differs in 'train.seed'); "
        "name another folder, or add --overwrite to replace it"
    )
    (own / "notes.txt").write_text("mine")
    arguments = [*TINY, "train.seed=7", "evaluation.split=none", "--out", "own", "--overwrite"]
    assert main(["train", *arguments]) == 0
    assert config.read_tree(own / "config.yaml")["train"]["seed"] == 7
    assert not (own / "evaluation.json").exists()
    assert (own / "notes.txt").read_text() == "mine"


def test_evaluate_predict_and_export_the_run(run, tmp_path, pictures, capsys):
    data = ["--data", "shapes", "--set", "size=48", "--set", "test_images=4"]
    arguments = [*data, "--boxes", "gt", "--trivial", "--json", "e.json", "--csv", "e.csv"]
    assert main(["evaluate", str(run), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "grabcut *" in printed
    assert "…" not in printed
    assert (tmp_path / "e.json").exists()
    assert len((tmp_path / "e.csv").read_text().splitlines()) > 4
    assert main(["predict", str(run), str(pictures), "--out", "masks"]) == 0
    assert len(list((tmp_path / "masks" / "masks").glob("*.png"))) == 3
    assert "3 masks written to masks" in capsys.readouterr().out
    boxed = ["--boxes", "boxes.csv", "--out", "boxed"]
    assert main(["predict", str(run), str(pictures), *boxed]) == 0
    assert main(["predict", str(run), str(pictures), "--out", "boxed", "--overwrite"]) == 0
    assert main(["export", str(run), "--format", "onnx", "--out", "s.onnx", "--no-verify"]) == 0
    assert main(["predict", "s.onnx", str(pictures), "--out", "exported"]) == 0
    assert main(["evaluate", "s.onnx", *data, "--json", "onnx.json"]) == 0
    assert main(["evaluate", str(run), *data, "--json", "whole.json"]) == 0
    trees = [json.loads((tmp_path / name).read_text()) for name in ("onnx.json", "whole.json")]
    ious = [tree["metrics"]["iou"] for tree in trees]
    assert ious[0] == pytest.approx(ious[1], abs=1e-3)
    assert {tree["train_box_source"] for tree in trees} == {"procedural"}
    with_boxes = [*data, "--boxes", "gt"]
    assert main(["evaluate", "s.onnx", *with_boxes]) == 2
    for name in ("0.png", "1.png", "2.png"):
        first, second = (
            np.asarray(Image.open(tmp_path / out / "masks" / name)) for out in ("masks", "exported")
        )
        assert (first == second).mean() > 0.999


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["evaluate", "nothing", "--data", "shapes"],
            "there is no segmenter 'nothing': name a run",
        ),
        (
            ["evaluate", "otsu", "--data", "shpes"],
            "--data, --root, --set: 'data.type' is 'shpes'; did you mean 'shapes'?",
        ),
        (
            ["evaluate", "otsu", "--data", "dsb2018"],
            "--data dsb2018 needs --root PATH, the folder where it lies",
        ),
        (
            ["evaluate", "otsu", "--data", "dsb2018", "--root", "nowhere"],
            "data.root: nowhere does not exist",
        ),
        (
            ["evaluate", "otsu", "--data", "shapes", "--set", "levle=hard"],
            "unknown key 'data.levle'; did you mean 'level'?",
        ),
        (
            ["evaluate", "otsu", "--data", "shapes", "--boxes", "gt"],
            "otsu has no windows of its own; "
            "give --size and --context, such as --size 64 --context 1.6",
        ),
        (
            [*("evaluate", "otsu", "--data", "shapes", "--boxes", "gt"), "--size=9", "--context=0"],
            "--size and --context must be at least 1",
        ),
        (["evaluate", "given_box", "--data", "shapes", "--limit", "1"], "given_box needs a box"),
        (["evaluate", "otsu", "--data", "shapes", "--limit", "0"], "limit is 0; it must be"),
        (["evaluate", "otsu", "--data", "shapes", "--json", "."], ". is a folder; name a file"),
        (["evaluate", "otsu", "--data", "shapes", "--csv", "a.yaml"], "a.yaml must end in .csv"),
        (["evaluate", "otsu", "--data", "shapes", "--size", "9"], "give both, and --boxes, or"),
        (
            [*("evaluate", "RUN", "--data", "shapes", "--boxes", "gt"), "--size=9", "--context=2"],
            "has windows of its own; leave out --size and --context",
        ),
        (["evaluate", "otsu", "--data", "folder", "--root", "pictures"], "folder has no masks"),
        (["predict", "nothing", "pictures", "--out", "a"], "there is no segmenter 'nothing'"),
        (["predict", "grabcut", "pictures", "--out", "a"], "grabcut starts from a box"),
        (["predict", "otsu", "pictures", "--out", "a", "--tile", "256"], "--tile is for trained"),
        (["predict", "otsu", "pictures", "--out", "a", "--threshold", "1"], "--threshold is 1; it"),
        (["predict", "RUN", "nowhere", "--out", "a"], "there is no image or folder nowhere"),
        (["predict", "RUN", "pictures", "--out", "boxes.csv"], "--out boxes.csv is a file"),
        (["predict", "RUN", "pictures", "--out", "pictures"], "--out pictures is where the images"),
        (["predict", "RUN", "pictures", "--out", "."], "--out . is where the images are"),
        (
            ["predict", "RUN", "pictures", "--boxes", "no.csv", "--out", "a"],
            "no.csv does not exist",
        ),
        (
            ["predict", "boxes.csv", "pictures", "--out", "a"],
            "boxes.csv is not a whole safetensors",
        ),
        (["export", "nothing", "--out", "a.onnx"], "cannot read segmenter nothing"),
        (["export", "RUN", "--out", "pictures"], "pictures is a folder; name a file"),
        (["export", "RUN", "--out", "a.safetensors"], "a.safetensors must end in .onnx"),
        (["export", "RUN", "--out", "a.onnx", "--format", "pt2"], "a.onnx must end in .pt2"),
        (["export", "RUN", "--out", "a.aot.pt2", "--format", "pt2"], "must end in .pt2"),
        (["export", "RUN"], "--out is missing"),
        (["export", "RUN", "--out", "a.onnx", "--data", "shapes"], "go with --compare"),
        (["export", "RUN", "--out", "a.onnx", "--pictures", "pictures"], "ranges of onnx-int8"),
        (["export", "RUN", "--compare", "--format", "pt2"], "--compare names formats itself"),
        (["predict", "hf://one", "pictures", "--out", "a"], "not of the form hf://OWNER/NAME"),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_mistakes_after_training_are_one_line(arguments, expected, run, refusal):
    arguments = [str(run) if argument == "RUN" else argument for argument in arguments]
    assert expected in refusal(*arguments)


@pytest.mark.parametrize("name", ["otsu", "kmeans", "centre_ellipse", "grabcut"])
def test_training_free_segmenters_predict(name, tmp_path, pictures):
    boxed = ["--boxes", "boxes.csv", "--size", "16", "--context", "1.5"]
    arguments = boxed if name == "grabcut" else []
    assert main(["predict", name, str(pictures), *arguments, "--out", "out"]) == 0
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "0.png"))
    # A cut through noise may well be empty; what it never does is leave the box.
    assert set(np.unique(mask)) <= {0, 1}
    if name == "grabcut":
        mask = mask.copy()
        mask[4:12, 4:12] = 0
    assert mask.any() == (name != "grabcut")


def test_objects_go_into_formats_of_choice(tmp_path, pictures):
    options = ["--instances", "--min-area", "3", "--refine", "clean", "guided"]
    formats = ["--format", "coco", "yolo"]
    assert main(["predict", "otsu", str(pictures), *options, *formats, "--out", "out"]) == 0
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"coco", "yolo", "segan-predict.json"}
    found = json.loads((tmp_path / "out/coco/annotations.json").read_text())
    assert all(annotation["area"] >= 3 for annotation in found["annotations"])


def test_boxes_of_no_picture_are_said_to_be_none(tmp_path, pictures, refusal):
    (tmp_path / "none.json").write_text(
        '{"images": [{"id": 1, "file_name": "0.png"}], "annotations": []}'
    )
    window = ["--size", "16", "--context", "1.5"]
    line = refusal("predict", "otsu", pictures, "--boxes", "none.json", *window, "--out", "a")
    assert line == "no picture has boxes in none.json"


def test_training_free_segmenters_are_scored_in_windows_of_a_given_size(capsys):
    data = ["--data", "shapes", "--set", "size=48", "--set", "test_images=2"]
    windows = ["--boxes", "gt", "--size", "16", "--context", "1.5"]
    assert main(["evaluate", "centre_ellipse", *data, *windows]) == 0
    assert "centre_ellipse" in capsys.readouterr().out


def test_a_wrong_flag_is_told_by_the_command_that_does_not_know_it(capsys):
    for command in ("predict", "train", "data list"):
        with pytest.raises(SystemExit) as stop:
            main(
                [
                    *command.split(),
                    *{"predict": ["otsu", ".", "--out", "x"]}.get(command, []),
                    "--q",
                ]
            )
        assert stop.value.code == 2
        assert f"segan {command}: error: unrecognized arguments: --q" in capsys.readouterr().err


def test_what_has_no_file_is_not_exported(refusal):
    assert "comes without training" in refusal("export", "otsu", "--out", "a.onnx")


def test_the_package_runs_as_the_command_does():
    shown = subprocess.run(
        [sys.executable, "-m", "segan", "--version"], check=True, capture_output=True, text=True
    )
    assert shown.stdout == f"segan {__version__}\n"
    wrong = [sys.executable, "-m", "segan", "report", "nowhere"]
    assert subprocess.run(wrong, check=False, capture_output=True).returncode == 2
