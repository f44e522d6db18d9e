"""The dense CRF against loops over all pairs and against the reference implementation."""

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from segan.config import build
from segan.data.images import read_image
from segan.errors import ConfigError
from segan.postprocessing.crf import CrfConfig, dense_crf, lattice_filters
from segan.postprocessing.permutohedral import PermutohedralLattice


def example(num_regions: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_regions, height, width, generator=generator, dtype=torch.float64)
    image = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    return logits.softmax(0), image


def smooth_image(height: int, width: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    coarse = rng.random((5, 6, 3))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(smooth.clip(0, 1)).permute(2, 0, 1)


def agreement(first: Tensor, second: Tensor) -> float:
    """The share of pixels with the same most likely region."""
    return float((first.argmax(0) == second.argmax(0)).double().mean())


def loops(probabilities: Tensor, image: Tensor, config: CrfConfig) -> Tensor:
    """Algorithm 1 pixel by pixel, label by label."""
    num_regions, height, width = probabilities.shape
    pixels = [(row, column) for row in range(height) for column in range(width)]

    def smoothness(a: tuple[int, int], b: tuple[int, int]) -> float:
        return math.exp(-(math.dist(a, b) ** 2) / (2 * config.smoothness_sigma**2))

    def appearance(a: tuple[int, int], b: tuple[int, int]) -> float:
        colours = sum(float(image[c][a] - image[c][b]) ** 2 for c in range(3))
        return math.exp(
            -(math.dist(a, b) ** 2) / (2 * config.appearance_sigma_distance**2)
            - colours / (2 * config.appearance_sigma_colour**2)
        )

    kernels = (
        (config.smoothness_weight, smoothness),
        (config.appearance_weight, appearance),
    )
    weights = {}
    for _, kernel in kernels:
        degrees = {a: sum(kernel(a, b) for b in pixels) for a in pixels}
        for a in pixels:
            for b in pixels:
                weights[kernel, a, b] = kernel(a, b) / math.sqrt(degrees[a] * degrees[b])
    refined = probabilities.clone()
    for _ in range(config.iterations):
        updated = torch.empty_like(refined)
        for a in pixels:
            scores = []
            for label in range(num_regions):
                energy = -math.log(probabilities[label][a])
                for other in range(num_regions):
                    if other != label:  # Potts
                        for weight, kernel in kernels:
                            energy += weight * sum(
                                weights[kernel, a, b] * float(refined[other][b]) for b in pixels
                            )
                scores.append(math.exp(-energy))
            for label, score in enumerate(scores):
                updated[label][a] = score / sum(scores)
        refined = updated
    return refined


def test_exact_mean_field_equals_loops_over_all_pairs() -> None:
    probabilities, image = example(3, 4, 5)
    config = CrfConfig(iterations=3, appearance_sigma_distance=3.0, appearance_sigma_colour=0.3)
    expected = loops(probabilities, image, config)
    refined = dense_crf(probabilities, image, config=config)
    assert refined.dtype == torch.float64
    torch.testing.assert_close(refined, expected, rtol=0, atol=1e-12)
    assert float((refined - probabilities).abs().max()) > 0.1


@pytest.mark.parametrize("backend", ["exact", "permutohedral"])
def test_without_weights_or_rounds_nothing_changes(backend: str) -> None:
    probabilities, image = example(4, 7, 9)
    for changes in ({"smoothness_weight": 0, "appearance_weight": 0}, {"iterations": 0}):
        config = build(CrfConfig, {"backend": backend, **changes})
        refined = dense_crf(probabilities, image, config=config)
        torch.testing.assert_close(refined, probabilities, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["exact", "permutohedral"])
def test_smoothness_removes_a_lone_pixel(backend: str) -> None:
    probabilities = torch.full((2, 15, 17), 0.3)
    probabilities[0] = 0.7
    probabilities[:, 7, 8] = torch.tensor([0.2, 0.8])
    image = torch.zeros(3, 15, 17)
    config = build(CrfConfig, {"backend": backend, "appearance_weight": 0})
    assert int(probabilities.argmax(0).sum()) == 1
    assert int(dense_crf(probabilities, image, config=config).argmax(0).sum()) == 0


@pytest.mark.parametrize("backend", ["exact", "permutohedral"])
def test_appearance_moves_the_boundary_to_the_edge_of_colour(backend: str) -> None:
    image = torch.zeros(3, 24, 32)
    image[..., 16:] = 0.8
    probabilities = torch.full((2, 24, 32), 0.4)
    probabilities[1, :, :13] = 0.6  # says 13 columns where the picture says 16
    probabilities[0] = 1 - probabilities[1]
    labels = dense_crf(probabilities, image, config=build(CrfConfig, {"backend": backend})).argmax(
        0
    )
    assert bool((labels[:, :16] == 1).all())
    assert bool((labels[:, 16:] == 0).all())


def test_a_batch_is_its_pictures_one_by_one() -> None:
    pairs = [example(3, 40, 30, seed) for seed in range(2)]
    config = CrfConfig()
    batch = dense_crf(
        torch.stack([pair[0] for pair in pairs]),
        torch.stack([pair[1] for pair in pairs]),
        config=config,
    )
    for refined, pair in zip(batch, pairs, strict=True):
        assert torch.equal(refined, dense_crf(*pair, config=config))


def test_regions_are_interchangeable_and_sum_to_one() -> None:
    probabilities, _ = example(70, 40, 36)  # more channels than OpenCV filters at once
    image = smooth_image(40, 36)
    refined = dense_crf(probabilities, image, config=CrfConfig())
    torch.testing.assert_close(refined.sum(0), torch.ones_like(refined[0]), rtol=0, atol=1e-5)
    permutation = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    permuted = dense_crf(probabilities[permutation], image, config=CrfConfig())
    torch.testing.assert_close(permuted, refined[permutation], rtol=0, atol=1e-5)


def test_auto_is_exact_for_small_pictures_only() -> None:
    for size, backend in ((32, "exact"), (33, "permutohedral")):
        probabilities, image = example(3, size, size)
        automatic = dense_crf(probabilities, image, config=CrfConfig())
        named = dense_crf(probabilities, image, config=build(CrfConfig, {"backend": backend}))
        assert torch.equal(automatic, named)


def test_both_backends_agree() -> None:
    """On noise that is hard to smooth; the reference agrees no better (see below)."""
    probabilities, _ = example(4, 40, 48)
    image = smooth_image(40, 48)
    exact, approximate = (
        dense_crf(probabilities, image, config=build(CrfConfig, {"backend": backend}))
        for backend in ("exact", "permutohedral")
    )
    assert agreement(exact, approximate) > 0.95


def test_the_smoothness_filter_is_the_normalised_gaussian() -> None:
    image = torch.zeros(3, 9, 12)
    config = CrfConfig(smoothness_weight=2.0, smoothness_sigma=1.5, appearance_weight=0)
    (weighted,) = lattice_filters(image, config=config)
    rows, columns = np.mgrid[:9, :12].reshape(2, -1) / 1.5
    kernel = np.exp(-((rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2) / 2)
    scale = kernel.sum(1) ** -0.5
    np.testing.assert_allclose(
        weighted(torch.eye(9 * 12)).numpy(), 2 * scale[:, None] * kernel * scale, atol=1e-4
    )


def test_mistakes_in_a_config_are_named() -> None:
    with pytest.raises(ConfigError, match="smoothness_sigma"):
        build(CrfConfig, {"smoothness_sigma": 0})
    probabilities, image = example(2, 40, 40)
    config = CrfConfig(appearance_sigma_colour=1e-7)
    with pytest.raises(ConfigError, match="too small"):
        dense_crf(probabilities, image, config=config)


@pytest.mark.parametrize("backend", ["exact", "permutohedral"])
def test_images_out_of_range_are_refused(backend: str) -> None:
    probabilities, image = example(2, 8, 8)
    image[0, 0, 0] = 200.0
    with pytest.raises(ConfigError, match=r"images must be in \[0, 1\], not from"):
        dense_crf(probabilities, image, config=CrfConfig(backend=backend))


# --- the lattice ---------------------------------------------------------------------------------


def points(num_points: int, d: int, spread: float) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_points, d)) * spread


@pytest.mark.parametrize(("d", "spread"), [(1, 0.8), (2, 0.8), (3, 0.8), (5, 0.5)])
def test_lattice_filter_is_near_the_gaussian_where_points_are_dense(d: int, spread: float) -> None:
    """Sums within 5 % and averages within .01 of values in [0, 1]; measured .035 and .0076."""
    features = points(3000, d, spread)
    values = np.random.default_rng(1).random((3000, 2)).astype(np.float32)
    kernel = np.exp(-((features[:, None] - features) ** 2).sum(-1) / 2)
    lattice = PermutohedralLattice(features)
    exact, near = kernel @ values, lattice.filter(values)
    # Up to one factor, which every normalisation removes.
    factor = (exact * near).sum() / (near**2).sum()
    assert np.abs(factor * near - exact).mean() / exact.mean() < 0.05
    averages = near / lattice.filter(np.ones((3000, 1), np.float32))
    assert np.abs(averages - exact / kernel.sum(1, keepdims=True)).max() < 0.01


@pytest.mark.parametrize("d", [2, 5])
def test_impulse_responses_are_nearly_symmetric_and_fall_with_distance(d: int) -> None:
    features = points(2000, d, 0.5)
    responses = PermutohedralLattice(features).filter(np.eye(2000, dtype=np.float32))
    assert responses.min() >= 0
    assert np.abs(responses - responses.T).mean() < 0.02 * responses.mean()
    distances = np.sqrt(((features[:, None] - features) ** 2).sum(-1))
    rings = [(distances >= low) & (distances < low + 0.5) for low in (0, 0.75, 1.5, 2.25)]
    means = [responses[ring].mean() for ring in rings]
    assert means == sorted(means, reverse=True)


def test_lattice_is_linear_and_far_points_do_not_meet() -> None:
    features = np.concatenate([points(50, 3, 0.5), points(50, 3, 0.5) + 100])
    lattice = PermutohedralLattice(features)
    values = np.random.default_rng(2).random((100, 3)).astype(np.float32)
    np.testing.assert_allclose(lattice.filter(2 * values), 2 * lattice.filter(values), rtol=1e-5)
    values[:50] = 0
    assert np.abs(lattice.filter(values)[:50]).max() == 0


# --- the reference implementation ----------------------------------------------------------------


def noisy_clusters(image: Tensor, num_regions: int) -> Tensor:
    """Probabilities from k-means colours, a fifth of the pixels relabelled at random."""
    colours = image.permute(1, 2, 0).reshape(-1, 3).numpy()
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 20, 0.0)
    cv2.setRNGSeed(0)
    _, labels, _ = cv2.kmeans(colours, num_regions, None, criteria, 1, cv2.KMEANS_RANDOM_CENTERS)
    rng = np.random.default_rng(0)
    labels = labels.ravel()
    wrong = rng.random(len(labels)) < 0.2
    labels[wrong] = rng.integers(num_regions, size=wrong.sum())
    probabilities = np.full((num_regions, len(labels)), 0.4 / (num_regions - 1), np.float32)
    probabilities[labels, np.arange(len(labels))] = 0.6
    return torch.from_numpy(probabilities).reshape(num_regions, *image.shape[1:])


def reference(probabilities: Tensor, picture: Tensor, config: CrfConfig) -> Tensor:
    densecrf = pytest.importorskip(
        "pydensecrf.densecrf", reason="pydensecrf2 is not installed: pip install segan[crf]"
    )
    num_regions, height, width = probabilities.shape
    crf = densecrf.DenseCRF2D(width, height, num_regions)
    crf.setUnaryEnergy(
        np.ascontiguousarray(-np.log(probabilities.numpy().reshape(num_regions, -1)))
    )
    crf.addPairwiseGaussian(sxy=config.smoothness_sigma, compat=config.smoothness_weight)
    crf.addPairwiseBilateral(
        sxy=config.appearance_sigma_distance,
        srgb=config.appearance_sigma_colour * 255,
        rgbim=np.ascontiguousarray(picture.permute(1, 2, 0).numpy()),
        compat=config.appearance_weight,
    )
    refined = np.array(crf.inference(config.iterations))
    return torch.from_numpy(refined).reshape(num_regions, height, width)


@pytest.mark.parametrize("num_regions", [8, 20])
@pytest.mark.parametrize("name", ["101085", "101087", "102061", "103070", "105025"])
def test_agrees_with_pydensecrf_on_photographs(name: str, num_regions: int) -> None:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    root = Path(os.environ["SEGAN_DATA"]) / "BSDS500/BSDS500/data/images/val"
    picture = read_image(root / f"{name}.jpg")
    image = picture.float() / 255
    probabilities = noisy_clusters(image, num_regions)
    config = CrfConfig()
    expected = reference(probabilities, picture, config)
    refined = dense_crf(probabilities, image, config=config)
    assert agreement(probabilities, expected) < 0.95
    assert agreement(refined, expected) >= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_the_lattice_errs_no_more_than_the_one_of_pydensecrf(seed: int) -> None:
    probabilities, _ = example(4, 40, 48, seed)
    picture = (smooth_image(40, 48, seed) * 255).round().to(torch.uint8)
    image = picture.double() / 255
    expected = reference(probabilities.float(), picture, CrfConfig())
    exact, approximate = (
        dense_crf(probabilities, image, config=build(CrfConfig, {"backend": backend}))
        for backend in ("exact", "permutohedral")
    )
    assert agreement(approximate, exact) >= agreement(expected.to(exact), exact) - 0.005
    assert agreement(approximate, expected) >= 0.98
