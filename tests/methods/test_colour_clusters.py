"""Controls for clusters of pixels: what they find, and that they repeat."""

import cv2
import numpy as np
import pytest
import torch

from segan.data.sample import Sample
from segan.errors import ConfigError
from segan.methods.colour_clusters import ColourKMeans, OneRegion, RandomRegions

COLOURS = np.array([[10, 20, 30], [200, 40, 40], [60, 180, 70], [240, 240, 230]])


class Pictures:
    name = "pictures"
    provides = frozenset({"images"})
    box_source = ""

    def __init__(self, *images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"p{index}", self.images[index])


def pictures(num_pictures: int = 5, noise: float = 4.0) -> tuple[Pictures, list[np.ndarray]]:
    """Four colours with noise, in patches of any order, and which of them each pixel is."""
    generator = np.random.default_rng(0)
    labels = [generator.integers(0, 4, (20 + index, 30)) for index in range(num_pictures)]
    images = []
    for each in labels:
        colours = COLOURS[each] + generator.normal(0, noise, (*each.shape, 3))
        images.append(torch.from_numpy(colours.clip(0, 255).astype(np.uint8)).permute(2, 0, 1))
    return Pictures(*images), labels


@pytest.mark.parametrize("segmenter", [OneRegion(), RandomRegions(5)])
def test_regions_are_a_partition_and_repeat(segmenter: torch.nn.Module) -> None:
    images = torch.rand(3, 3, 13, 17, dtype=torch.float64)
    regions = segmenter(images)
    assert regions.dtype == images.dtype
    assert regions.shape[0::2] + regions.shape[3:] == (3, 13, 17)
    assert torch.equal(regions.sum(dim=1), torch.ones(3, 13, 17, dtype=torch.float64))
    assert set(regions.unique().tolist()) <= {0, 1}
    assert torch.equal(regions, segmenter(images))
    assert torch.equal(regions[1:2], segmenter(images[1:2]))
    assert segmenter.foreground is None
    assert not list(segmenter.parameters())


def test_random_regions_are_equally_large_and_follow_their_seed() -> None:
    images = torch.rand(1, 3, 100, 100)
    shares = RandomRegions(4)(images).mean(dim=(0, 2, 3))
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert not torch.equal(RandomRegions(4)(images), RandomRegions(4, seed=1)(images))


def test_clusters_of_colour_are_the_colours_from_dark_to_light() -> None:
    dataset, labels = pictures()
    segmenter = ColourKMeans(4).fit(dataset)
    lab = cv2.cvtColor(COLOURS[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    order = lab[:, 0].argsort()
    np.testing.assert_allclose(segmenter.centres.numpy(), lab[order], atol=1.5)
    for image, expected in zip(dataset.images, labels, strict=True):
        regions = segmenter(image[None].float() / 255)
        assert regions.shape == (1, 4, *expected.shape)
        assert np.array_equal(order[regions[0].argmax(dim=0).numpy()], expected)
        assert torch.equal(regions.sum(dim=1), torch.ones(1, *expected.shape))
    assert segmenter.foreground is None


def test_clusters_are_nearest_centres_in_lab() -> None:
    dataset, _ = pictures(noise=60.0)
    segmenter = ColourKMeans(6).fit(dataset)
    image = dataset.images[0]
    lab = cv2.cvtColor(image.permute(1, 2, 0).numpy().astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    distances = ((lab[:, :, None] - segmenter.centres.numpy()) ** 2).sum(axis=-1)
    labels = segmenter(image[None].float() / 255)[0].argmax(dim=0).numpy()
    assert np.array_equal(labels, distances.argmin(axis=-1))
    assert len(np.unique(labels)) == 6


def test_clusters_repeat_and_a_few_pixels_give_nearly_the_same() -> None:
    dataset, _ = pictures()
    full = ColourKMeans(4).fit(dataset, seed=3)
    assert torch.equal(full.centres, ColourKMeans(4).fit(dataset, seed=3).centres)
    few = ColourKMeans(4).fit(dataset, num_pixels=200, num_pictures=2)
    assert not torch.equal(few.centres, full.centres)
    torch.testing.assert_close(few.centres, full.centres, atol=2.0, rtol=0)


def test_clusters_travel_with_the_state() -> None:
    dataset, _ = pictures()
    segmenter = ColourKMeans(4).fit(dataset)
    assert torch.equal(segmenter.state_dict()["centres"], segmenter.centres)
    assert not list(segmenter.parameters())


def test_what_cannot_be_clustered_is_said_in_one_line() -> None:
    with pytest.raises(ConfigError, match="call fit with a data set"):
        ColourKMeans(3)(torch.rand(1, 3, 4, 4))
    for kind in (ColourKMeans, RandomRegions):
        with pytest.raises(ConfigError, match="num_regions is 0"):
            kind(0)
    tiny = Pictures(torch.zeros(3, 1, 2, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"3 clusters of colour need as many pixels; .* gave 2"):
        ColourKMeans(3).fit(tiny)
    with pytest.raises(ConfigError, match="gave 0"):
        ColourKMeans(3).fit(Pictures())
