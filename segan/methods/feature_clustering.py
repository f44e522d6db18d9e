"""A small network trained on one picture, whose own cluster numbers are its targets.

Kanezaki, "Unsupervised image segmentation by backpropagation", ICASSP 2018, and Kim, Kanezaki and
Tanaka, "Unsupervised learning of image segmentation based on differentiable feature clustering",
IEEE TIP 2020 (arXiv 2007.09990).

A picture's pixels go through a few convolutions to normalised responses; the strongest response of
a pixel is its cluster and, at once, the target that the next step trains towards, made smooth by
superpixels (2018) or by a continuity loss (2020), so that clusters merge as training goes on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, skip_init, vector_to_parameters

from segan.arrays import LabelMap, connected_regions, pictures
from segan.errors import ConfigError
from segan.segmenter import PartitionSegmenter
from segan.superpixels import superpixels


@dataclass(frozen=True, kw_only=True)
class FeatureClusteringConfig:
    """Hyper-parameters; the papers' but for `max_iterations` and `longest_side`.

    The papers train at full size for 1000 iterations, which is minutes on a GPU and most of an
    hour on a CPU for one picture. By default it is 100 iterations at 160 pixels: a smaller budget.

    Attributes:
        variant: "2018": targets are smoothed by a majority vote in superpixels; "2020": by the
            continuity loss.
        channels: Of each convolution, and the most clusters there can be.
        num_convs: 3 x 3 convolutions before the 1 x 1 convolution of responses.
        learning_rate: Of SGD.
        momentum: Of SGD.
        max_iterations: Steps on the picture.
        min_labels: Training stops when no more clusters than these are left.
        continuity: Weight mu of the continuity loss (2020).
        num_superpixels: About how many at full size (2018).
        compactness: Of the superpixels (2018).
        longest_side: Larger pictures are shrunk to this for training and their responses enlarged
            again; None never shrinks.
        seed: Of the initial weights.

    Raises:
        ConfigError: A value is out of range.
    """

    variant: Literal["2018", "2020"] = "2020"
    channels: int = 100
    num_convs: int = 2
    learning_rate: float = 0.1
    momentum: float = 0.9
    max_iterations: int = 100
    min_labels: int = 3
    continuity: float = 1.0
    num_superpixels: int = 10_000
    compactness: float = 100.0
    longest_side: int | None = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in ("2018", "2020"):
            raise ConfigError(f"variant is {self.variant!r}; it must be '2018' or '2020'")
        for name in ("channels", "num_convs", "max_iterations", "min_labels", "num_superpixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.min_labels > self.channels:
            raise ConfigError(
                f"min_labels is {self.min_labels}; it must be at most channels, {self.channels}"
            )
        for name, high in (
            ("learning_rate", math.inf),
            ("momentum", 1.0),
            ("continuity", math.inf),
            ("compactness", math.inf),
        ):
            if not 0 <= getattr(self, name) < high:
                top = "finite" if high == math.inf else f"below {high:g}"
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be {top}, at least 0")
        if self.longest_side is not None and self.longest_side < 1:
            raise ConfigError(f"longest_side is {self.longest_side}; it must be at least 1")


def similarity_loss(responses: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each pixel's responses to its cluster: mean_n -ln softmax(r_n)[c_n].

    L_sim of both papers.

    Args:
        responses: [K, H, W], normalised over pixels.
        labels: int64 [H, W] in [0, K).
    """
    return F.cross_entropy(responses[None], labels[None])


def continuity_loss(responses: Tensor) -> Tensor:
    """How much neighbours differ: mean |r_{x+1,y} - r_{x,y}| + mean |r_{x,y+1} - r_{x,y}|.

    L_con of the 2020 paper, as a mean over pixels and clusters, as its authors' programs take it.

    Args:
        responses: [K, H, W]; a side of one pixel adds nothing.
    """
    total = responses.new_zeros(())
    for differences in (responses.diff(dim=1), responses.diff(dim=2)):
        total = total + differences.abs().sum() / max(differences.numel(), 1)
    return total


def majority(labels: Tensor, segments: Tensor) -> Tensor:
    """Each pixel's label becomes the most frequent one in its segment; of several, the lowest.

    Args:
        labels: int64 of any shape, from 0.
        segments: int64 of the same shape, from 0.
    """
    num_labels = int(labels.max()) + 1
    num_segments = int(segments.max()) + 1
    pairs = (segments * num_labels + labels).flatten()
    counts = torch.bincount(pairs, minlength=num_segments * num_labels)
    return counts.view(num_segments, num_labels).argmax(1)[segments]


class ResponseNetwork(nn.Module):
    """3 x 3 convolution, ReLU and batch normalisation, repeated; then 1 x 1 and normalised.

    Weights are drawn as PyTorch would draw them, from a generator of their own. Convolutions see
    the picture reflected at its border.

    Args:
        config: Hyper-parameters.
    """

    def __init__(self, config: FeatureClusteringConfig) -> None:
        super().__init__()
        width = config.channels
        inputs = [3, *[width] * (config.num_convs - 1)]
        self.convs = nn.ModuleList(_empty_conv(n, width, 3) for n in inputs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in inputs)
        self.classify = _empty_conv(width, width, 1)
        self.normalize = nn.BatchNorm2d(width)
        generator = torch.Generator().manual_seed(config.seed)
        for conv in (*self.convs, self.classify):
            bound = conv.weight[0].numel() ** -0.5
            nn.init.uniform_(conv.weight, -bound, bound, generator=generator)
            nn.init.uniform_(conv.bias, -bound, bound, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Responses [1, K, H, W] of a picture [1, 3, H, W], each of mean 0 and variance 1 first."""
        hidden = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = norm(conv(_padded(hidden)).relu())
        responses: Tensor = self.normalize(self.classify(hidden))
        return responses


def _empty_conv(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    """Without weights yet, so that no global random numbers are drawn."""
    conv: nn.Conv2d = skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, inputs, outputs, side
    )
    return conv


def _padded(images: Tensor) -> Tensor:
    """One pixel more on each side: the next but one of the border, or itself if it is alone."""
    for pad, side in (((1, 1, 0, 0), images.shape[-1]), ((0, 0, 1, 1), images.shape[-2])):
        images = F.pad(images, pad, mode="reflect" if side > 1 else "replicate")
    return images


class FeatureClustering(PartitionSegmenter):
    """Clusters of one picture's pixels, by a network trained on that picture alone.

    Regions are the 8-connected pieces of the clusters, small ones absorbed as in the classical
    rows. Training also works where gradients are off, and leaves global random numbers alone. It
    runs where the image is.

    Args:
        config: Hyper-parameters; None for the defaults.
    """

    def __init__(self, config: FeatureClusteringConfig | None = None) -> None:
        super().__init__()
        self.config = config or FeatureClusteringConfig()

    def partitions(self, image: Tensor, *, num_levels: int) -> list[Tensor]:
        """Label maps int32 [H, W] from 0, coarse to fine, of one picture [3, H, W] in [0, 1].

        Levels come from along the training, during which clusters merge: of all steps with the
        same number of clusters the last is kept, and each level is the step whose number is
        nearest to the one wanted.

        Args:
            image: The picture.
            num_levels: How many numbers of clusters are wanted, in geometric steps from
                `min_labels` to `channels`; one level is the end of training.

        Raises:
            ConfigError: The number of levels is not positive, or the image not one picture.
        """
        if num_levels < 1:
            raise ConfigError(f"num_levels is {num_levels}; it must be at least 1")
        with torch.inference_mode(False), torch.enable_grad():
            fit = _fit(image, self.config)
        counts = sorted(fit.weights)
        wanted = np.geomspace(self.config.min_labels, self.config.channels, num_levels)
        distances = np.abs(np.log(np.divide.outer(wanted, counts)))
        chosen = [counts[index] for index in distances.argmin(axis=1)]
        if num_levels == 1:
            chosen = [fit.last]
        found = {count: fit.regions(count, image.shape[-2:]) for count in set(chosen)}
        # Fewer clusters may lie in more pieces.
        levels = sorted((found[count] for count in chosen), key=lambda labels: int(labels.max()))
        return [torch.from_numpy(labels).to(image.device) for labels in levels]

    def partition(self, image: Tensor) -> Tensor:
        """The label map int32 [H, W], from 0, at the end of training on a picture [3, H, W].

        Raises:
            ConfigError: The image is not one picture.
        """
        return self.partitions(image, num_levels=1)[0]


class _Fit(NamedTuple):
    """A network after training on `images` [1, 3, h, w], and its weights by number of clusters."""

    network: ResponseNetwork
    images: Tensor
    weights: dict[int, Tensor]
    last: int

    def regions(self, count: int, size: Sequence[int]) -> LabelMap:
        """Regions [H, W] when there were last so many clusters; responses enlarged to `size`."""
        with torch.no_grad():
            vector_to_parameters(self.weights[count], self.network.parameters())
            responses = F.interpolate(self.network(self.images), tuple(size), mode="bilinear")
        return connected_regions(responses[0].argmax(0).cpu().numpy())


def _fit(image: Tensor, config: FeatureClusteringConfig) -> _Fit:
    """Train a network on a picture [3, H, W]."""
    images = _shrunk(image, config.longest_side)
    network = ResponseNetwork(config).to(images)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=config.learning_rate, momentum=config.momentum
    )
    segments = None
    if config.variant == "2018":
        segments = _segments(images, config, share=images[0].numel() / image.numel())
    weights: dict[int, Tensor] = {}
    for _ in range(config.max_iterations):
        responses = network(images)[0]
        labels = responses.argmax(0)
        last = int(labels.unique().numel())
        weights[last] = parameters_to_vector(network.parameters()).detach().clone()
        if last <= config.min_labels:
            break
        if segments is None:
            total = similarity_loss(responses, labels)
            total = total + config.continuity * continuity_loss(responses)
        else:
            total = similarity_loss(responses, majority(labels, segments))
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _Fit(network, images, weights, last)


def _shrunk(image: Tensor, longest_side: int | None) -> Tensor:
    """A picture [3, H, W] as a batch [1, 3, h, w] without side longer than this; never a view.

    A single pixel becomes two, since batch normalisation needs a variance.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ConfigError(f"an image of shape {list(image.shape)} is not [3, height, width]")
    images = image.detach().clone().float()[None]
    longest = max(image.shape[1:])
    if longest_side is not None and longest > longest_side:
        size = [max(round(side * longest_side / longest), 1) for side in image.shape[1:]]
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return images.repeat(1, 1, 1, 2) if images[0, 0].numel() == 1 else images


def _segments(images: Tensor, config: FeatureClusteringConfig, *, share: float) -> Tensor:
    """Superpixels int64 [h, w] of images [1, 3, h, w], `share` of a full-size picture each."""
    number = max(round(config.num_superpixels * share), 1)
    labels = superpixels(
        pictures(images)[0], num_superpixels=number, compactness=config.compactness
    )
    return torch.from_numpy(labels).long().to(images.device)
