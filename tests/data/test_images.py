import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from segan.data.images import UnreadableImage, find_images, image_size, read_image, read_mask
from segan.errors import ConfigError

UPRIGHT = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)

# How a camera stores the upright picture for each EXIF orientation, and Pillow's name for it.
STORED = {
    1: lambda picture: picture,
    2: lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    4: lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    6: lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    7: lambda picture: picture.transpose(Image.Transpose.TRANSVERSE),
    8: lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
}


def pixels(path: Path) -> NDArray[np.uint8]:
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    return image.permute(1, 2, 0).numpy()


def deep(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint16]:
    """Values of a 12-bit camera in a 16-bit file, a few of them hot."""
    values = np.random.default_rng(seed).integers(200, 4096, shape, dtype=np.uint16)
    values.reshape(-1)[:2] = 65535
    return values


def reason(path: Path, **options: float) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return caught.value.reason


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    STORED[orientation](Image.fromarray(UPRIGHT)).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(pixels(path), UPRIGHT)
    assert image_size(path) == (6, 10)


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_is_turned_upright_and_looks_the_same(tmp_path: Path, orientation: int) -> None:
    smooth = np.linspace(0, 255, 32 * 48).reshape(32, 48).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    STORED[orientation](Image.fromarray(smooth)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert image_size(tmp_path / "a.jpg") == (32, 48)
    assert np.abs(pixels(tmp_path / "a.jpg")[..., 1].astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_and_gray_tiffs_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    """Pillow maps uncompressed gray TIFFs into memory and scrambles the turned ones."""
    pictures = {"gray": UPRIGHT[..., 0], "deep": deep((6, 10)), "rgb": deep((6, 10, 3))}
    for name, upright in pictures.items():
        stored = np.asarray(upright)
        stored = stored.swapaxes(0, 1) if orientation >= 5 else stored
        stored = stored[:, ::-1] if orientation in (2, 3, 7, 8) else stored
        stored = stored[::-1] if orientation in (3, 4, 6, 7) else stored
        kind = "rgb" if name == "rgb" else "minisblack"
        turned, plain = tmp_path / f"{name}.tif", tmp_path / f"{name}-plain.tif"
        tag = (0x0112, "H", 1, orientation, True)
        tifffile.imwrite(turned, np.ascontiguousarray(stored), photometric=kind, extratags=[tag])
        tifffile.imwrite(plain, upright, photometric=kind)
        np.testing.assert_array_equal(pixels(turned), pixels(plain), err_msg=name)
        assert image_size(turned) == (6, 10)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_colour_mode_gives_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(UPRIGHT).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    np.testing.assert_array_equal(pixels(path), np.asarray(picture.convert("RGB")))


def test_transparency_is_laid_on_black(tmp_path: Path) -> None:
    rgba = np.full((4, 4, 4), 200, dtype=np.uint8)
    rgba[..., 3] = [0, 255, 128, 255]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    columns = pixels(tmp_path / "a.png")[0, :, 0].astype(int)
    assert columns[[0, 1, 3]].tolist() == [0, 200, 200]
    assert abs(columns[2] - 100) <= 1


def test_deep_files_keep_their_dynamic_range(tmp_path: Path) -> None:
    gray, colour = deep((200, 200)), deep((200, 200, 3))
    Image.fromarray(gray).save(tmp_path / "gray.png")
    cv2.imwrite(str(tmp_path / "colour.png"), colour)
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    planar = np.moveaxis(colour, -1, 0)
    tifffile.imwrite(tmp_path / "planar.tif", planar, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "float.tif", (gray / 65535).astype(np.float32))
    tifffile.imwrite(tmp_path / "float64.tif", gray / 65535)
    tifffile.imwrite(tmp_path / "signed.tif", gray.astype(np.int32) - 1000)
    Image.fromarray(gray).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 8
    for path in paths:
        read = pixels(path)
        saturated = ((read == 0) | (read == 255)).mean()
        assert saturated < 0.001, path.name
        assert len(np.unique(read)) > 200, path.name
    np.testing.assert_array_equal(pixels(tmp_path / "gray.png"), pixels(tmp_path / "lzw.tif"))
    np.testing.assert_array_equal(pixels(tmp_path / "colour.tif"), pixels(tmp_path / "planar.tif"))
    red_first = pixels(tmp_path / "colour.tif")[..., ::-1]
    np.testing.assert_array_equal(pixels(tmp_path / "colour.png"), red_first)


def test_deep_values_keep_their_order_and_channels_their_balance(tmp_path: Path) -> None:
    values = np.linspace(1000, 3000, 300).reshape(10, 10, 3).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    read = pixels(tmp_path / "a.tif").reshape(-1).astype(int)
    assert (np.diff(read) >= 0).all()
    assert read[0] == 1
    assert read[-1] == 254


def test_deep_transparency_is_laid_on_black(tmp_path: Path) -> None:
    values = deep((8, 8, 4))
    values[..., 3] = 65535
    values[:4, :, 3] = 0
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    read = pixels(tmp_path / "a.tif")
    assert read[:4].max() <= 1
    assert read[4:].min() > 1


def test_constant_and_nearly_constant_deep_files_are_read(tmp_path: Path) -> None:
    values = np.zeros((200, 200), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "constant.png")
    values[50, 50:52] = 20000, 40000
    Image.fromarray(values).save(tmp_path / "specks.png")
    assert np.ptp(pixels(tmp_path / "constant.png")) == 0
    assert np.unique(pixels(tmp_path / "specks.png")).tolist() == [1, 128, 254]


def test_first_page_of_a_stack_is_read(tmp_path: Path) -> None:
    stack = np.stack([np.full((6, 10), level, np.uint8) for level in (10, 20, 30)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    assert (pixels(tmp_path / "a.tif") == 10).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_truncated_files_are_errors_not_gray_padding(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: len(content) * 9 // 10])
    assert reason(path)


@pytest.mark.parametrize(
    ("name", "expected"), [("deep.png", "image file is truncated"), ("deep.tif", "failed to read")]
)
def test_truncated_deep_files_are_errors(tmp_path: Path, name: str, expected: str) -> None:
    path = tmp_path / name
    if path.suffix == ".png":
        cv2.imwrite(str(path), deep((64, 64, 3)))
    else:
        tifffile.imwrite(path, deep((64, 64, 3)), photometric="rgb")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    assert expected in reason(path)


def test_what_is_no_picture_is_named_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines \udcff.jpg"
    path.touch()
    assert reason(path) == "the file is empty"
    path.write_text("<html><body>404</body></html>")
    assert reason(path) == "not a JPEG, PNG, TIFF, BMP or WebP picture"
    Image.fromarray(UPRIGHT).save(path, format="GIF")
    assert reason(path) == "not a JPEG, PNG, TIFF, BMP or WebP picture"
    assert reason(tmp_path / "missing.png") == "no such file or directory"
    assert reason(tmp_path) == "is a directory"
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((6, 10, 5), np.uint8), planarconfig="contig")
    assert reason(tmp_path / "five.tif") == "5 channels, expected 1 to 4"
    tifffile.imwrite(tmp_path / "nan.tif", np.full((6, 10), np.nan, np.float32))
    assert reason(tmp_path / "nan.tif") == "some of its values are not finite"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path) -> None:
    Image.new("1", (12_000, 10_000)).save(tmp_path / "bomb.png")
    tifffile.imwrite(tmp_path / "deep.tif", deep((100, 200, 3)), photometric="rgb")
    assert reason(tmp_path / "bomb.png") == "12000 x 10000 is 120 megapixels, the limit 100"
    assert "the limit 0.01" in reason(tmp_path / "deep.tif", max_megapixels=0.01)
    assert read_image(tmp_path / "deep.tif", max_megapixels=0.02).shape == (3, 100, 200)


def test_unreadable_image_survives_pickling() -> None:
    error = UnreadableImage(Path("a.jpg"), "the file is empty")
    assert str(pickle.loads(pickle.dumps(error))) == "cannot read a.jpg: the file is empty"


def test_masks_are_levels_whatever_their_coding(tmp_path: Path) -> None:
    objects = np.zeros((6, 10), dtype=np.uint8)
    objects[1:3, 2:5] = 1
    colours = Image.fromarray(objects)
    colours.putpalette([0, 0, 0, 60, 0, 0])
    grays = Image.fromarray(1 - objects)
    grays.putpalette([255, 255, 255, 0, 0, 0])
    codings = {
        "gray": Image.fromarray(objects * 255),
        "zero-one": Image.fromarray(objects),
        "bits": Image.fromarray(objects * 255).convert("1"),
        "colour": Image.fromarray(objects * 255).convert("RGB"),
        "alpha": Image.fromarray(objects * 255).convert("RGBA"),
        "label palette": colours.convert("P"),
        "gray palette": grays,
    }
    for name, picture in codings.items():
        picture.save(tmp_path / "a.png")
        mask = read_mask(tmp_path / "a.png")
        np.testing.assert_array_equal(mask.numpy(), 255 * objects, err_msg=name)


def test_deep_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(deep((6, 10))).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="8 bits"):
        read_mask(tmp_path / "a.png")


def test_images_are_found_in_order_without_hidden_ones_and_loops(tmp_path: Path) -> None:
    names = ["b/x y.PNG", "a/ü.jpg", "a.tiff", "b/.hidden.png", ".git/c.png", "Thumbs.db", "n.txt"]
    for name in [*names, "b/line\nbreak.webp"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/ü.jpg", "a.tiff", "b/line\nbreak.webp", "b/x y.PNG", "dangling.jpg"]


def test_missing_folder_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        find_images(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        find_images(tmp_path / "file")
