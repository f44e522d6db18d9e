"""One thread everywhere: tests are tiny, machines are shared, and sums come out the same."""

import torch

torch.set_num_threads(1)
