"""Train a segmenter; the same as `segan train`. Try `python train.py --help`."""

import sys

from segan.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
