"""Noise for redrawing: standard normal, and a function of the generator alone."""

import numpy as np
import torch

from segan.data.redraws import RedrawView
from segan.data.sample import Sample


def test_noise_is_drawn_with_the_picture_and_is_standard_normal():
    sample = Sample("picture", torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8))
    view = RedrawView(16, 0.8, num_regions=3, num_noise=500)
    assert view.needs == {"images"}
    first, again = (view(sample, 0, np.random.default_rng(3)) for _ in range(2))
    assert first.images.shape == (3, 16, 16)
    assert first.noise.shape == (3, 500)
    assert first.noise.dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert abs(float(first.noise.mean())) < 0.1
    assert abs(float(first.noise.std()) - 1) < 0.1
