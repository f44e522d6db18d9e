"""Where networks run and in which arithmetic: decided here for training, evaluation and use."""

import torch


def best_device() -> torch.device:
    """CUDA where there is some, else the CPU; its fp32 is fp32 from here on."""
    use_full_precision()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_full_precision() -> None:
    """Keep CUDA from multiplying fp32 numbers as TF32, which has 10 bits, as it does by default."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
