"""Time of the boundary protocol on the dev pictures of BSDS500, in one process and one thread.

    OMP_NUM_THREADS=1 python benchmarks/boundary_matching.py PATH/TO/BSDS500 --limit 10

Each picture's contours are the gradient of its blurred gray levels, cut at 99 thresholds. Seconds
are of the processor, so that a busy machine does not count. The whole protocol, on contours of the
edge detector for all pictures, made before:

    python benchmarks/boundary_matching.py PATH/TO/BSDS500 --save FOLDER
    time segan evaluate FOLDER --data bsds500 --root PATH/TO/BSDS500 --split dev \
        --protocol boundaries --workers 2
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from segan.data.datasets.bsds500 import Bsds500, Bsds500Config
from segan.data.sample import Annotations, Sample
from segan.evaluation import metrics
from segan.evaluation.boundaries import score_boundaries, summarise_boundaries
from segan.evaluation.hierarchies import NUM_THRESHOLDS, Contours
from segan.postprocessing.refined import EdgePartitions


def gradient(sample: Sample, sigma: float) -> metrics.Values:
    """The gradient [H, W], 1 at its 99.5th percentile."""
    gray = cv2.cvtColor(sample.image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(gray.astype(np.float64), (0, 0), sigma)
    size = np.hypot(cv2.Sobel(smooth, cv2.CV_64F, 1, 0), cv2.Sobel(smooth, cv2.CV_64F, 0, 1))
    return np.clip(size / np.percentile(size, 99.5), 0, 1)


def save_contours(dataset: Bsds500, folder: Path) -> None:
    """Writes the contours of `edges`, an 8-bit PNG for each picture."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = EdgePartitions()
    for index in range(len(dataset)):
        sample = dataset[index]
        strength = edges.contours(sample.image.float() / 255).numpy()
        path = folder / f"{sample.name}.png"
        if not cv2.imwrite(str(path), np.rint(strength * 255).astype(np.uint8)):
            raise OSError(f"{path} cannot be written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--sigma", type=float, default=2.0, help="of the blur, in pixels")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="write the edge detector's contours of all pictures, and stop",
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = Bsds500(Bsds500Config(root=options.root), "dev")
    if options.save is not None:
        save_contours(dataset, options.save)
        return
    step = max(len(dataset) // options.limit, 1)
    counts, seconds, num_matches = [], 0.0, 0
    for index in range(0, step * options.limit, step):
        sample = dataset[index]
        assert isinstance(sample.truth, Annotations)
        people = [labels.numpy() for labels in sample.truth.labels]
        contours = Contours(gradient(sample, options.sigma))
        start = time.process_time()
        counts.append(score_boundaries(contours, people))
        seconds += time.process_time() - start
        num_matches += NUM_THRESHOLDS * len(people)
    print(f"{len(counts)} pictures, {num_matches / len(counts) / NUM_THRESHOLDS:.1f} people each")
    print(f"{seconds / len(counts):.2f} s per picture at {NUM_THRESHOLDS} thresholds")
    print(f"{1000 * seconds / num_matches:.2f} ms per match")
    print(summarise_boundaries(counts).metrics)


if __name__ == "__main__":
    main()
