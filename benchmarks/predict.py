"""How fast `segan predict` is beside its network alone, and how much memory it takes.

    python benchmarks/predict.py throughput      200 JPEGs of 1600 x 1200, a network at 256 x 192
    python benchmarks/predict.py memory          peak memory with 25, 100 and 200 pictures
    python benchmarks/predict.py large           peak memory with one picture of 10,000 x 10,000

Pictures are smooth random colours with noise; networks have random weights, and a bias that makes
half of the pixels objects. A row is kept in benchmarks/results/predict/ when --keep is given.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segan import config, networks
from segan.checkpoint import save_segmenter
from segan.evaluation.results import git_commit
from segan.networks import UNetConfig
from segan.opening import open_segmenter
from segan.predicting.pipeline import BATCH
from segan.prediction import predict
from segan.segmenter import MaskSegmenter

RESULTS = Path(__file__).resolve().parent / "results" / "predict"
SIZE = (1200, 1600)
SCALE = 256 / 1600


def save_network(path: Path, *, width: int, depth: int, scale: float) -> None:
    """A segmenter file with random weights."""
    torch.manual_seed(0)
    settings = UNetConfig(width=width, depth=depth)
    network = networks.build(settings)
    with torch.no_grad():
        network.head.bias -= network(torch.rand(1, 3, 64, 64)).median()
    save_segmenter(
        path,
        MaskSegmenter(network, stride=network.stride),
        network=config.as_tree(settings),
        window=None,
        scale=scale,
        provenance={"supervision": {"train": "none"}},
    )


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours with a little noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    noise = random.integers(0, 16, (size[0] // 8, size[1] // 8, 1), dtype=np.uint8)
    pixels = np.asarray(smooth) // 2 + np.kron(noise, np.ones((8, 8, 1), np.uint8))
    return Image.fromarray(pixels.astype(np.uint8))


def save_pictures(folder: Path, count: int) -> None:
    """JPEGs, a few different ones under many names."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:04d}.jpg"
        if number < 10:
            picture(number, SIZE).save(path, quality=90)
        else:
            path.write_bytes((folder / f"{number % 10:04d}.jpg").read_bytes())


def alone(model: Path, num_images: int) -> tuple[float, float]:
    """The network on preloaded batches: images per second, and CPU seconds of an image."""
    opened = open_segmenter(str(model))
    network = opened.segmenter.to(memory_format=torch.channels_last)
    height, width = (round(side * SCALE) for side in SIZE)
    images = torch.rand(BATCH, 3, height, width, device=opened.device)
    images = images.contiguous(memory_format=torch.channels_last)
    count = num_images // BATCH * BATCH
    with torch.inference_mode():
        network(images)
        start, cpu = time.perf_counter(), time.thread_time()
        for _ in range(num_images // BATCH):
            network(images).cpu()
        return count / (time.perf_counter() - start), (time.thread_time() - cpu) / count


def throughput(num_images: int, *, width: int, depth: int) -> dict[str, object]:
    """Rates of the command, and of the network alone before and after, under the same load.

    The critical path is the CPU time of the thread that feeds the network: as far as it is the
    network's own, reading and writing delay nothing where a core is free for them.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "segmenter.safetensors"
        save_network(model, width=width, depth=depth, scale=SCALE)
        save_pictures(folder / "pictures", num_images)
        predict(model, [folder / "pictures/0000.jpg"], folder / "warm", formats=["masks"])
        before, _ = alone(model, num_images // 2)
        critical, everything = time.thread_time(), time.process_time()
        found = predict(model, [folder / "pictures"], folder / "out", formats=["masks"])
        critical = (time.thread_time() - critical) / num_images
        everything = (time.process_time() - everything) / num_images
        after, network = alone(model, num_images // 2)
    rate = found.num_written / found.seconds
    return {
        "network": f"U-Net, width {width}, depth {depth}, at 256 x 192",
        "num_images": found.num_written,
        "alone_images_per_s": [round(before, 2), round(after, 2)],
        "predict_images_per_s": round(rate, 2),
        "ratio": round(rate / ((before + after) / 2), 3),
        "cpu_ms_per_image": {
            "network alone": round(1e3 * network, 1),
            "critical path": round(1e3 * critical, 1),
            "all threads": round(1e3 * everything, 1),
        },
        "critical_path_ratio": round(network / critical, 3),
    }


def peak(program: str) -> float:
    """Peak memory of a Python program in a process of its own, MiB."""
    # Not ru_maxrss: a child starts with its parent's, and the parent has drawn the picture.
    last = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    code = f"{program}\n{last}"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(result.stdout.split("VmHWM:")[-1].split()[0]) / 1024


def call(model: Path, source: Path, out: Path, **options: object) -> str:
    """A program that predicts."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return (
        "from pathlib import Path\nfrom segan.prediction import predict\n"
        f"predict({str(model)!r}, [Path({str(source)!r})], Path({str(out)!r}){given})"
    )


def memory(counts: tuple[int, ...]) -> dict[str, object]:
    """Peak memory by number of pictures, with index masks and overlays."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "segmenter.safetensors"
        save_network(model, width=8, depth=3, scale=SCALE)
        peaks = {}
        for count in counts:
            save_pictures(folder / str(count), count)
            peaks[count] = round(peak(call(model, folder / str(count), folder / f"out{count}")))
            print(f"{count} pictures: {peaks[count]} MiB", flush=True)
    return {"peak_MiB_by_pictures": peaks, "pictures": "1600 x 1200 JPEG"}


def large(side: int, scale: float) -> dict[str, object]:
    """Peak memory and seconds of one large picture, seen at a scale."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "segmenter.safetensors"
        save_network(model, width=8, depth=3, scale=scale)
        picture(0, (side, side)).save(folder / "large.png", compress_level=1)
        nothing = peak("import segan.prediction")
        for formats in (["masks", "overlays"], ["coco", "soft"]):
            start = time.perf_counter()
            program = call(model, folder / "large.png", folder / formats[-1], formats=formats)
            mebibytes = round(peak(program))
            seconds = round(time.perf_counter() - start)
            found["+".join(formats)] = {"peak_MiB": mebibytes, "seconds": seconds}
            print(f"{formats}: {mebibytes} MiB, {seconds} s", flush=True)
    return {"side": side, "scale": scale, "imports_MiB": round(nothing), "by_formats": found}


def main() -> None:
    """Measure, print, and keep the row if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["throughput", "memory", "large"])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--width", type=int, default=8, help="of the network")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--scale", type=float, default=0.25, help="network pixels per pixel")
    parser.add_argument("--keep", metavar="NAME", help="keep the row under this name")
    options = parser.parse_args()
    if options.what == "throughput":
        row = throughput(options.images, width=options.width, depth=options.depth)
    elif options.what == "memory":
        row = memory((options.images // 8, options.images // 2, options.images))
    else:
        row = large(options.side, options.scale)
    row |= {
        "benchmark": options.what,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, load {os.getloadavg()[0]:.1f}",
        "torch": torch.__version__,
        "git_commit": git_commit(),
    }
    print(json.dumps(row, indent=1))
    if options.keep:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{options.keep}.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
