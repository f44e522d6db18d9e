"""Clustering losses against the forms that public code uses: time, memory, equality, floors.

    python benchmarks/losses.py --out DIR        writes losses.md and losses.png

One thread; process CPU time of forward and backward in float32, forms taken in turn, the least of
several rounds. Memory is the peak of resident memory above what the process held before the call,
in a process of its own (Linux). Values and gradients are compared in float64. Floors come from
this machine's matrix product and copy, measured in the same run.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segan.losses.mutual_information import (
    collapsed_mutual_information_loss,
    mutual_information_loss,
)
from segan.losses.ncut import soft_ncut

Maps = list[Tensor]
# The public form with a few regions at a time needs less memory; segan's is the same.
BY_FOUR = "N-cut (public: 4 regions at once)"
SIGMA_INTENSITY, SIGMA_DISTANCE = 10 / 255, 4.0


class Case(NamedTuple):
    """Regions [count, num_regions, side, side], and what a loss asks of neighbours."""

    loss: str
    count: int
    num_regions: int
    side: int
    radius: int

    def __str__(self) -> str:
        return f"{self.count}x{self.num_regions}x{self.side}x{self.side}, {self.radius}"

    def maps(self, dtype: torch.dtype = torch.float32) -> Maps:
        """Two partitions, the second a noisy copy of the first; coarse, as networks' are."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.count, self.num_regions, self.side // 4, self.side // 4)
        coarse = 3 * torch.randn(shape, generator=generator).repeat_interleave(4, 2)
        logits = coarse.repeat_interleave(4, 3)
        other = logits + 0.5 * torch.randn(logits.shape, generator=generator)
        return [x.to(dtype).softmax(1).requires_grad_() for x in (logits, other)]

    def images(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Images whose pixels differ by about the bandwidth."""
        generator = torch.Generator().manual_seed(1)
        noise = torch.rand(self.count, 3, self.side, self.side, generator=generator)
        return (0.4 + 0.1 * noise).to(dtype)


def window_ncut(regions: Tensor, images: Tensor, radius: int, at_once: int) -> Tensor:
    """Soft N-cut as public code does it: a window around every pixel, some regions at once."""
    reach = radius - 1
    side, (height, width) = 2 * reach + 1, images.shape[2:]

    def windows(maps: Tensor) -> Tensor:
        padded = F.pad(maps, (reach, reach, reach, reach))
        found = F.unfold(padded, side)
        return found.view(len(maps), maps.shape[1], side * side, height * width)

    line = torch.arange(-reach, reach + 1)
    distance = (line[:, None] ** 2 + line**2).flatten()[:, None].to(images)
    near = (distance < radius**2) * windows(torch.ones_like(images[:, :1]))[:, 0]
    difference = (windows(images) - images.flatten(2)[:, :, None]).square().sum(1)
    exponent = -difference / SIGMA_INTENSITY**2 - distance / SIGMA_DISTANCE**2
    weights = exponent.exp() * near
    degree = weights.sum(1)
    ratios = []
    for part in regions.split(at_once, 1):
        flat = part.flatten(2)
        kept = (windows(part) * weights[:, None]).sum(2)
        ratios.append((flat * kept).sum(2) / (flat * degree[:, None]).sum(2))
    return (regions.shape[1] - torch.cat(ratios, 1).sum(1)).mean()


def convolved_information(first: Tensor, second: Tensor, radius: int, collapsed: bool) -> Tensor:
    """IIC as its authors do it: a convolution whose kernel is the image."""
    least = 2.2e-16
    first, second = (x.transpose(0, 1).contiguous() for x in (first, second))
    joint = F.conv2d(first, second, padding=radius)
    joint = joint.permute(2, 3, 0, 1)
    if collapsed:
        joint = joint.sum((0, 1), keepdim=True)
    joint = joint / joint.sum((2, 3), keepdim=True)
    joint = (joint + joint.mT) / 2
    rows, columns = joint.sum(3, keepdim=True), joint.sum(2, keepdim=True)
    logs = [x.clamp(min=least).log() for x in (joint, rows, columns)]
    return -(joint.clamp(min=least) * (logs[0] - logs[1] - logs[2])).sum((2, 3)).mean()


def loss(case: Case, form: str, maps: Maps, images: Tensor) -> Tensor:
    """One of a loss's two forms."""
    if case.loss.startswith("N-cut"):
        if form == "segan":
            return soft_ncut(maps[0], images, radius=case.radius)
        at_once = 4 if case.loss == BY_FOUR else case.num_regions
        return window_ncut(maps[0], images, case.radius, at_once)
    collapsed = case.loss == "IIC collapsed"
    if form == "segan":
        function = collapsed_mutual_information_loss if collapsed else mutual_information_loss
        return function(*maps, radius=case.radius)
    return convolved_information(*maps, case.radius, collapsed)


def gradients(case: Case, form: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Value and gradient; the N-cut has one argument."""
    maps = case.maps(dtype)
    value = loss(case, form, maps, case.images(dtype))
    wanted = maps[:1] if case.loss.startswith("N-cut") else maps
    return value.detach(), torch.stack(torch.autograd.grad(value, wanted))


def seconds(call: Callable[[], object]) -> float:
    """CPU time of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


class Machine(NamedTuple):
    """What one thread of this machine can do."""

    flops: float
    bandwidth: float


def measure_machine() -> Machine:
    """float32 matrix product in FLOP/s; copy between buffers beyond the cache in bytes/s."""
    side = 1024
    matrix, source = torch.rand(side, side), torch.rand(1 << 25)
    target = torch.empty_like(source)
    product = min(seconds(lambda: matrix @ matrix) for _ in range(8))
    copy = min(seconds(lambda: target.copy_(source)) for _ in range(8))
    return Machine(2 * side**3 / product, 2 * source.nbytes / copy)


def floor(case: Case, machine: Machine) -> float:
    """Seconds that the arithmetic of the fast form, or reading and writing, must take.

    N-cut: one multiply-add per pixel, neighbour and column (regions and degree). IIC collapsed:
    three products of K x N H W. IIC uncollapsed: the same per displacement, which is the floor of
    a direct convolution; transforms go below it. All read their arguments and write gradients.
    """
    pixels = case.count * case.side**2
    if case.loss.startswith("N-cut"):
        line = np.arange(1 - case.radius, case.radius)
        neighbours = int((line[:, None] ** 2 + line**2 < case.radius**2).sum())
        operations, moved = 2 * pixels * neighbours * (case.num_regions + 1), 2
    else:
        operations, moved = 6 * pixels * case.num_regions**2, 4
        if case.loss == "IIC":
            operations *= (2 * case.radius + 1) ** 2
    traffic = moved * 4 * pixels * case.num_regions
    return max(operations / machine.flops, traffic / machine.bandwidth)


def peak(case: Case, form: str) -> int:
    """Bytes that a first call adds to this process's resident memory, at their peak."""
    small = case._replace(count=1, num_regions=2, side=4 * case.radius)
    gradients(small, form, torch.float32)
    maps, images = case.maps(), case.images()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    loss(case, form, maps, images).backward()
    return memory("VmHWM") - before


def memory(name: str) -> int:
    """An entry of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(x.split()[1]) for x in lines if x.startswith(name))


def peak_elsewhere(case: Case, form: str) -> int:
    """`peak`, in a process of its own."""
    arguments = [str(x) for x in case]
    command = [sys.executable, __file__, "--peak", form, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


FORMS = ("segan", "public")
CASES = (
    Case("N-cut", 1, 4, 96, 5),
    Case("N-cut", 1, 64, 96, 5),
    Case("N-cut", 1, 20, 224, 5),
    Case(BY_FOUR, 1, 64, 96, 5),
    Case(BY_FOUR, 1, 20, 224, 5),
    Case("IIC collapsed", 4, 6, 96, 5),
    Case("IIC collapsed", 4, 24, 128, 10),
    Case("IIC", 4, 6, 96, 5),
    Case("IIC", 4, 24, 128, 10),
)


class Found(NamedTuple):
    """What was measured of a case: by form, and the difference between forms."""

    case: Case
    seconds: list[float]
    bytes: list[int]
    value_error: float
    gradient_error: float
    floor: float


def measure(case: Case, machine: Machine, rounds: int) -> Found:
    """Time, memory and equality of both forms."""
    images = case.images()
    least = [float("inf"), float("inf")]
    for index in range(rounds):
        for i, form in enumerate(FORMS):
            # The slow form takes seconds: fewer rounds of it, more of the fast one between.
            if form == "public" and index >= 3 and least[i] > 1:
                continue
            maps = case.maps()
            least[i] = min(
                least[i],
                seconds(lambda f=form, m=maps: loss(case, f, m, images).backward()),
            )
    small = case._replace(count=min(case.count, 2), num_regions=min(case.num_regions, 6), side=48)
    (value, slope), (peer, expected) = (gradients(small, f, torch.float64) for f in FORMS)
    return Found(
        case,
        least,
        [peak_elsewhere(case, form) for form in FORMS],
        float((value - peer).abs() / peer.abs()),
        float((slope - expected).abs().max() / expected.abs().max()),
        floor(case, machine),
    )


def table(found: Sequence[Found], machine: Machine) -> str:
    """Markdown."""
    lines = [
        f"One thread, {torch.__version__}; matrix product {machine.flops / 1e9:.0f} GFLOP/s, "
        f"copy {machine.bandwidth / 2**30:.1f} GiB/s (both directions counted).",
        "",
        "| loss | N x K x H x W, radius | public, ms | segan, ms | faster | direct floor, ms "
        "| public, MiB | segan, MiB | value | gradient |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        ours, theirs = each.seconds
        used, wasted = (x / 2**20 for x in each.bytes)
        lines.append(
            f"| {each.case.loss} | {each.case} | {1e3 * theirs:.0f} | {1e3 * ours:.1f} "
            f"| {theirs / ours:.0f}x | {1e3 * each.floor:.1f} | {wasted:.0f} | {used:.0f} "
            f"| {each.value_error:.0e} | {each.gradient_error:.0e} |"
        )
    return "\n".join(lines) + "\n"


def plot(found: Sequence[Found], path: Path) -> None:
    """Bars of milliseconds on a logarithmic scale: public code above segan."""
    height, left, width = 46, 400, 960
    canvas = np.full((height * len(found) + 40, width, 3), 255, np.uint8)
    longest = max(max(each.seconds) for each in found)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)

    write("forward + backward, ms of CPU (logarithmic); grey: public form, blue: segan", 10, 20)
    for row, each in enumerate(found):
        top = 34 + row * height
        write(f"{each.case.loss} {each.case}", 10, top + 22)
        for i, colour in ((1, (170, 170, 170)), (0, (190, 110, 40))):
            y = top + 17 * (1 - i)
            share = np.log10(1e3 * each.seconds[i]) / np.log10(1e3 * longest)
            right = left + int((width - left - 70) * share)
            cv2.rectangle(canvas, (left, y), (right, y + 14), colour, -1)
            write(f"{1e3 * each.seconds[i]:.1f}", right + 6, y + 12)
    cv2.imwrite(str(path), canvas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for losses.md and losses.png")
    parser.add_argument("--rounds", type=int, default=7, help="of which the fastest counts")
    parser.add_argument("--peak", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        form, name, *numbers = args.peak
        print(peak(Case(name, *map(int, numbers)), form))
        return
    machine = measure_machine()
    found = [measure(case, machine, args.rounds) for case in CASES]
    text = table(found, machine)
    print(text, end="")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "losses.md").write_text(text)
        plot(found, args.out / "losses.png")


if __name__ == "__main__":
    main()
