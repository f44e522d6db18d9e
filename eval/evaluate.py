"""Score a segmenter; the same as `segan evaluate`. Try `python eval/evaluate.py --help`."""

import sys

from segan.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
