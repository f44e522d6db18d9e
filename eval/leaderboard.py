"""Run a suite; the same as `segan leaderboard`. Try `python eval/leaderboard.py --help`."""

import sys

from segan.cli import main

if __name__ == "__main__":
    sys.exit(main(["leaderboard", *sys.argv[1:]]))
