"""Small pieces that networks are made of, written so that every exporter accepts them."""

import math
from typing import Literal

from torch import Tensor, nn

from segan import distributed
from segan.compositing import at_least_fp32

Norm = Literal["group", "channel", "none"]


Inputs = Literal["range", "standard"]


def normalise(images: Tensor, kind: Inputs | None) -> Tensor:
    """Images [N, 3, H, W] in [0, 1] as a network wants them.

    None leaves them as they are, for a caller who has done it. "range" maps them to [-1, 1].
    "standard" gives each image zero mean and unit variance over all its pixels and channels, so
    that a dim picture says as much as a bright one; noise is not amplified beyond a contrast of
    0.02, about five gray levels of 255.
    """
    if kind is None:
        return images
    if kind == "range":
        return 2 * images - 1
    centred = images - _image_mean(images)
    return centred / (_image_mean(centred.square()) + 0.02**2).sqrt()


def _image_mean(values: Tensor) -> Tensor:
    """Mean of each image [N, 1, 1, 1], one axis at a time: exported runtimes sum all at once in
    too few bits on large pictures.
    """
    return values.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel (as in ConvNeXt, Liu et al. 2022).

    Unlike group normalisation it keeps no statistic of the whole image, so that features learned on
    windows carry over to whole pictures; with it, masks of whole pictures came out empty.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features [N, C, H, W]."""
        normalised: Tensor = self.norm(features.permute(0, 2, 3, 1))
        return normalised.permute(0, 3, 1, 2)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) by the statistics of the whole batch.

    In a run of several processes they are those of all of them, so that the number of processes
    changes nothing; PyTorch's own synchronised layer runs on CUDA only.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features [N, C, H, W]."""
        if not (self.training and distributed.active()):
            return super().forward(features)
        values = at_least_fp32(features)
        mean = distributed.all_reduce_mean(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = distributed.all_reduce_mean(centred.square().mean((0, 2, 3)))
        self._follow(mean.detach(), variance.detach(), values[:, 0].numel())
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(features.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, local_count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = local_count * distributed.world_size()
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        self.num_batches_tracked.add_(1)


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """A normalisation layer. No kind depends on the batch.

    Groups have 8 channels each, or as few more as divide the channels evenly.
    """
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, max(1, channels // 8)), channels)
    if kind == "channel":
        return ChannelNorm(channels)
    return nn.Identity()


def conv_block(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    """Two 3x3 convolutions, each normalised and rectified."""
    block = nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        make_norm(norm, outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        make_norm(norm, outputs),
        nn.ReLU(),
    )
    for layer in block:
        if isinstance(layer, nn.Conv2d):
            # Keeps the variance through the rectifiers, which matters where nothing normalises.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return block
