"""Reading pictures: one reader for training, evaluation and prediction.

Files come from strangers, so only five formats are tried, the size is checked in the header before
anything is decoded, pictures are turned upright, and every way a file can be bad ends in one
`UnreadableImage`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from segan.errors import ConfigError, DataError

MAX_MEGAPIXELS = 100
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 0x0112
_DEEP_GRAY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "F"})
_LABEL_MODES = frozenset({"1", "L", "P", "I"}) | _DEEP_GRAY_MODES - {"F"}

# Share of pixels, in percent, left outside at either end when deep files are scaled to 8 bits.
_OUTLIERS = 0.02


class UnreadableImage(DataError):
    """A picture or mask that cannot be read.

    Attributes:
        path: The file.
        reason: Why, in words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot read {one_line(str(self.path))}: {self.reason}"


# --- finding -------------------------------------------------------------------------------------


def find_images(root: Path) -> list[Path]:
    """The image files below a folder, by suffix, in the order of their paths.

    Hidden files and folders are left out. Links to folders are followed, each folder once.

    Raises:
        ConfigError: The folder does not exist, or one below it cannot be listed.
    """
    root = require_folder(root)
    found: list[Path] = []
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_cannot_list):
        real = os.path.realpath(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in SUFFIXES and _is_file(path)]
    return sorted(found)


def require_folder(path: Path, key: str = "data.root") -> Path:
    """The path with `~` expanded, if it is a folder.

    Raises:
        ConfigError: It is not; `key` is what to mend.
    """
    path = path.expanduser()
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise ConfigError(f"{key}: {one_line(str(path))} {problem}")
    return path


def _is_file(path: Path) -> bool:
    # A dangling link is kept, so that it is reported as unreadable rather than overlooked.
    return path.is_file() or (path.is_symlink() and not path.exists())


def _cannot_list(error: OSError) -> None:
    raise ConfigError(f"data.root: cannot list {one_line(str(error.filename))}: {error.strerror}")


# --- reading -------------------------------------------------------------------------------------


def read_image(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Tensor:
    """A picture as uint8 [3, H, W], RGB, upright.

    Transparency is laid on black. Files of 16 bits, of 32 bits and of floats are scaled to 8 bits
    by their own percentiles, all channels alike. The first page or frame counts.

    Raises:
        UnreadableImage: The file is missing, empty, damaged, too large or no picture.
    """
    pixels = _read_rgb(path, max_megapixels)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def read_mask(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Tensor:
    """A mask's gray levels as uint8 [H, W], upright; threshold them above 127.

    A coloured palette is read by index, as label files mean it: 0 stays 0, the others give 255.
    A gray file of zeros and ones is read as 0 and 255.

    Raises:
        UnreadableImage: As for pictures, or the file has more than 8 bits per pixel.
    """
    with reading(path), _opened(path, max_megapixels) as picture:
        if _is_deep(picture):
            raise UnreadableImage(path, "a mask has 8 bits per pixel, this has more")
        picture.load()
        if picture.mode == "P" and not _is_gray(picture):
            levels = np.where(np.asarray(picture) > 0, np.uint8(255), np.uint8(0))
        else:
            levels = np.asarray(picture.convert("L"))
        if levels.max() == 1:
            levels = levels * np.uint8(255)
        levels = _upright(levels, picture.getexif().get(_ORIENTATION, 1))
    return torch.from_numpy(levels.copy())


def read_labels(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Tensor:
    """The numbers stored in a label map, int32 [H, W], upright: gray levels or palette indices.

    Raises:
        UnreadableImage: As for pictures, or the file has colours or fractions for numbers.
    """
    with reading(path), _opened(path, max_megapixels) as picture:
        if picture.mode not in _LABEL_MODES:
            raise UnreadableImage(
                path, f"a label map has one whole number per pixel, this has mode {picture.mode}"
            )
        picture.load()
        labels = _upright(np.asarray(picture), picture.getexif().get(_ORIENTATION, 1))
    return torch.from_numpy(labels.astype(np.int32))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture, from the header alone.

    Raises:
        UnreadableImage: The file is missing, empty or no picture.
    """
    with reading(path):
        try:
            with _opened(path, float("inf")) as picture:
                width, height = picture.size
                # Pillow turns TIFF sizes by itself, and only those.
                orientation = 1 if picture.format == "TIFF" else _orientation(picture)
        except UnidentifiedImageError:
            with _first_page(path) as page:
                height, width = page.imagelength, page.imagewidth
                orientation = _page_orientation(page)
    return (width, height) if orientation >= 5 else (height, width)


def stored_mode(path: Path) -> str:
    """How a picture is stored, from its header: Pillow's mode, such as "RGB", "L", "P" or "I;16".

    Deep TIFFs that Pillow does not know have channels and type instead, such as "3 x uint16".

    Raises:
        UnreadableImage: The file is missing, empty or no picture.
    """
    with reading(path):
        try:
            with _opened(path, float("inf")) as picture:
                return picture.mode
        except UnidentifiedImageError:
            with _first_page(path) as page:
                return f"{page.samplesperpixel} x {page.dtype}"


def _read_rgb(path: Path, max_megapixels: float) -> NDArray[np.uint8]:
    """Upright RGB pixels [H, W, 3]."""
    with reading(path):
        try:
            with _opened(path, max_megapixels) as picture:
                return _decode(path, picture, max_megapixels)
        except UnidentifiedImageError:
            return _scale(*_read_deep_tiff(path, max_megapixels))


def _decode(path: Path, picture: ImageFile.ImageFile, max_megapixels: float) -> NDArray[np.uint8]:
    deep_colour = _is_deep(picture) and picture.mode not in _DEEP_GRAY_MODES
    if deep_colour and picture.format == "TIFF":
        return _scale(*_read_deep_tiff(path, max_megapixels))
    picture.load()  # also where OpenCV decodes: Pillow says what is wrong with a damaged file
    orientation = _orientation(picture)
    if deep_colour:
        return _scale(_read_deep_png(path), orientation)
    if picture.mode in _DEEP_GRAY_MODES:
        return _scale(np.asarray(picture), orientation)
    colours: Image.Image = picture
    if picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, "black")
        colours = Image.alpha_composite(black, picture.convert("RGBA"))
    if colours.mode != "RGB":  # else it would be copied
        colours = colours.convert("RGB")
    return _upright(np.asarray(colours), orientation)


@contextmanager
def _opened(path: Path, max_megapixels: float) -> Iterator[ImageFile.ImageFile]:
    if path.stat().st_size == 0:
        raise UnreadableImage(path, "the file is empty")
    # Through a stream: given a path, Pillow maps uncompressed files and scrambles turned TIFFs.
    with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as picture:
        _check_pixels(path, *picture.size, max_megapixels)
        yield picture


@contextmanager
def _first_page(path: Path) -> Iterator[Any]:
    with path.open("rb") as stream:
        if stream.read(4) not in _TIFF_MAGIC:
            raise UnreadableImage(path, "not a JPEG, PNG, TIFF, BMP or WebP picture")
    with tifffile.TiffFile(path) as file:
        yield file.pages.first


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read into an `UnreadableImage` naming it."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise UnreadableImage(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return one_line(str(error).partition("\n")[0] or type(error).__name__)


def _check_pixels(path: Path, width: int, height: int, max_megapixels: float) -> None:
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        size = f"{width} x {height} is {round(megapixels, 2):g} megapixels"
        reason = f"{size}, the limit {max_megapixels:g}"
        raise UnreadableImage(path, reason)


def _is_deep(picture: ImageFile.ImageFile) -> bool:
    """Whether a picture has more than 8 bits per channel; asked before it is loaded."""
    if picture.mode in _DEEP_GRAY_MODES or picture.mode == "I":
        return True
    bits: Any = picture.tag_v2.get(258, (8,)) if hasattr(picture, "tag_v2") else (8,)
    return max(bits) > 8 or any(";16B" in str(tile[3]) for tile in picture.tile)


def _is_gray(picture: ImageFile.ImageFile) -> bool:
    palette = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _orientation(picture: ImageFile.ImageFile) -> int:
    return int(picture.getexif().get(_ORIENTATION, 1))


def _page_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag else 1


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels [H, W, ...] turned as their EXIF orientation, 1 to 8, says."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


# --- more than 8 bits ----------------------------------------------------------------------------


def _read_deep_png(path: Path) -> NDArray[Any]:
    values = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise UnreadableImage(path, "the file is damaged")
    reverse = cv2.COLOR_BGRA2RGBA if values.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(values, reverse))


def _read_deep_tiff(path: Path, max_megapixels: float) -> tuple[NDArray[Any], int]:
    """Values [H, W] or [H, W, C] as stored, and the orientation."""
    with _first_page(path) as page:
        _check_pixels(path, page.imagewidth, page.imagelength, max_megapixels)
        if page.samplesperpixel > 4 or page.imagedepth > 1:
            raise UnreadableImage(path, f"{page.samplesperpixel} channels, expected 1 to 4")
        values = page.asarray()
        if page.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
        return values, _page_orientation(page)


def _scale(values: NDArray[Any], orientation: int) -> NDArray[np.uint8]:
    """Values [H, W] or [H, W, C] of any type as upright RGB pixels [H, W, 3].

    All but the outliers are spread over 1..254; 0 and 255 are left to the outliers, so that hardly
    a pixel is saturated.
    """
    channels = np.atleast_3d(values)
    colours: NDArray[np.float32] = channels.astype(np.float32)
    if channels.shape[2] in (2, 4):
        full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
        colours = colours[..., :-1] * (colours[..., -1:] / np.float32(full))
    if not np.isfinite(colours).all():
        raise ValueError("some of its values are not finite")
    low, high = np.percentile(colours, (_OUTLIERS, 100 - _OUTLIERS))
    if low == high:
        low, high = colours.min(), colours.max()
    span = max(float(high - low), np.finfo(np.float32).tiny)
    levels = np.clip(np.rint(1 + 253 * ((colours - low) / span)), 0, 255).astype(np.uint8)
    rgb = np.broadcast_to(levels, (*levels.shape[:2], 3))
    return _upright(rgb, orientation)


# --- messages ------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """Text for a message; file names may hold line breaks and bytes that are no characters."""
    return text if text.isprintable() else repr(text)
