"""What a run was made with: versions and hardware, for environment.json."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import segan
from segan.evaluation.results import git_commit

ENVIRONMENT_NAME = "environment.json"

_PACKAGES = ("torchvision", "kornia", "accelerate", "numpy", "opencv-python", "pillow")


def environment(device: torch.device, num_processes: int) -> dict[str, Any]:
    """Versions and hardware as JSON values; no names of machines, users or paths.

    Args:
        device: Where the run trains.
        num_processes: Over how many processes.
    """
    packages = {name: _version(name) for name in _PACKAGES}
    on_gpu = device.type == "cuda"
    return {
        "segan": segan.__version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": str(torch.__version__),
        **{name: found for name, found in packages.items() if found},
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": num_processes,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
