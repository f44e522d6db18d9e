"""One thread and the CPU everywhere: tests are tiny, machines are shared, sums come out the same.

SEGAN_TEST_GPU=1 lets the tests use a GPU that is there. Those that compare a resumed run with an
uninterrupted one bit by bit then fail: some CUDA kernels add in no fixed order.
"""

import os

if not os.environ.get("SEGAN_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

torch.set_num_threads(1)
