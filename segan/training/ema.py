"""The exponential moving average of a segmenter: what a run reports and saves."""

import copy

import torch

from segan.segmenter import Segmenter


class AveragedSegmenter:
    """A copy of a segmenter that follows its weights with a half-life counted in images.

    Early in training the half-life is a tenth of the images seen, so that the average forgets the
    random initialisation (Karras et al. 2024, arXiv 2312.02696, section 3).
    """

    def __init__(self, segmenter: Segmenter, halflife_images: float) -> None:
        self.segmenter = copy.deepcopy(segmenter).requires_grad_(False).eval()
        self.halflife_images = halflife_images

    @torch.no_grad()
    def update(self, segmenter: Segmenter, *, images_seen: int, batch_size: int) -> None:
        """Move towards the current weights, and running means with them; counters are copied."""
        halflife = min(self.halflife_images, max(images_seen / 10, 1e-9))
        weight = 1.0 - 0.5 ** (batch_size / halflife)
        for mean, current in zip(self.segmenter.parameters(), segmenter.parameters(), strict=True):
            mean.lerp_(current, weight)
        for kept, buffer in zip(self.segmenter.buffers(), segmenter.buffers(), strict=True):
            # Statistics of the newest weights would not fit the average of older ones.
            if buffer.is_floating_point():
                kept.lerp_(buffer, weight)
            else:
                kept.copy_(buffer)
