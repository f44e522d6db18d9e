"""Videos: frames read in order, and overlays joined into a video again."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segan.data.images import one_line
from segan.errors import ConfigError, DataError
from segan.files import written_aside

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})

_CODEC = "mp4v"  # the one that every build of OpenCV has
_DEFAULT_RATE = 25.0


class Video:
    """A video that is read once, frame by frame.

    Attributes:
        path: The file.
        ended: Whether there are no more frames.
        rate: Frames per second.
        size: Height and width.
        num_claimed: Frames that the file says it has; what is read may differ.

    Raises:
        ConfigError: It cannot be opened, or its frames are larger than the limit.
    """

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        self.path = path
        self.capture = cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise ConfigError(f"cannot read {one_line(str(path))}: not a video that OpenCV reads")
        height = int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        width = int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        if height * width > max_pixels:
            raise ConfigError(
                f"frames of {one_line(str(path))} are {width} x {height}, more than the "
                f"{max_pixels} pixels of --max-pixels"
            )
        self.size = height, width
        self.rate = float(self.capture.get(cv2.CAP_PROP_FPS)) or _DEFAULT_RATE
        self.num_claimed = max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.ended = False
        self.position = 0

    def read(self, number: int) -> Tensor | None:
        """The frame uint8 [3, H, W] of a number above all before, from 0; None beyond the end."""
        while not self.ended and self.position < number:
            self.ended = not self.capture.grab()
            self.position += 1
        if self.ended:
            return None
        read, frame = self.capture.read()
        self.position += 1
        if not read:
            self.ended = True
            return None
        return torch.from_numpy(np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)))


def join(frames: Sequence[Path], out: Path, *, rate: float) -> None:
    """Writes pictures of one size as a video of so many frames per second.

    Raises:
        DataError: OpenCV cannot write it.
    """
    with Image.open(frames[0]) as first:
        size = first.size
    with written_aside(out) as aside:
        writer = cv2.VideoWriter(str(aside), cv2.VideoWriter.fourcc(*_CODEC), rate, size)
        if not writer.isOpened():
            raise DataError(f"cannot write {out}: OpenCV has no encoder for {_CODEC}")
        for frame in frames:
            with Image.open(frame) as picture:
                writer.write(np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1]))
        writer.release()
