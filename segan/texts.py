"""What `--help` teaches, for each command."""

TRAIN = """\
Train a segmenter without ever seeing a mask.

  segan train                                        the shapes world, a few minutes on a CPU
  segan train PICTURES                               a folder of images alone, into masks
  segan train PICTURES --method iic                  ... or into regions without names
  segan train configs/cut_paste/dsb2018.yaml data.root=PATH/TO/DSB2018
  segan train CONFIG train.images=64000 method.weights.cut=0.5 --out runs/trial

The same command without --overwrite resumes an interrupted run. What it writes is in --out:
config.yaml, metrics.jsonl, samples/*.png, state/, segmenter.safetensors and evaluation.json.
"""
EVALUATE = """\
Score a segmenter against ground truth, beside trivial guesses scored by the same code.

  segan evaluate runs/shapes --data shapes --split test --boxes gt
  segan evaluate runs/dsb2018 --data dsb2018 --root PATH/TO/DSB2018 --set look=dark --boxes gt
  segan evaluate otsu --data wbc --root PATH/TO/segmentation_WBC
  segan evaluate runs/camvid_small --data camvid --root PATH/TO/CamVid --split dev \\
      --protocol semantic --trivial
  segan evaluate felzenszwalb --data bsds500 --root PATH/TO/BSDS500 --split dev --protocol regions
  segan evaluate runs/bsds500_small --data bsds500 --root PATH/TO/BSDS500 --split dev \\
      --protocol regions --refine crf+ucm

The protocols regions and boundaries also take a folder of predictions in place of a segmenter, one
file per picture: label maps (.mat with a cell segs, .npy, .npz, .png) or hierarchies (.mat with
ucm2); for boundaries an 8-bit gray .png holds contour strengths.
"""
PREDICT = """\
Write masks and overlays for pictures, folders of pictures, patterns and videos, or files for other
programs (docs/predict.md). Segmenters of unnamed regions write the regions' numbers.

  segan predict runs/shapes PICTURES --out masks
  segan predict runs/dsb2018 PICTURES --boxes boxes.csv --out masks
  segan predict grabcut PICTURES --boxes boxes.csv --size 64 --context 1.6 --out masks
  segan predict runs/dsb2018 "plates/*/*.tif" --format coco labelme --instances --min-area 30 \\
      --out nuclei
  segan predict runs/mine clip.mp4 --refine flips guided --join-videos --out clip
"""
EXPORT = """\
Write a segmenter as one file that needs no segan, and check that it gives the same masks.

  segan export runs/shapes --format onnx --out segmenter.onnx
  segan export runs/shapes --format onnx-int8 --pictures PICTURES --out small.onnx
  segan export runs/shapes --compare --data shapes

Formats: onnx, onnx-int8, openvino (.xml and .bin), pt2 (torch.export), aot (.aot.pt2, compiled for
this machine). --compare makes all, or those it names, and prints size, latency and agreement; with
--data also accuracy.
"""
REPORT = """\
One HTML page about runs: curves, samples over training, scores, worst and best pictures. It holds
all it shows, and opens from disk without a network.

  segan report runs/shapes
  segan report runs/shapes runs/trial --out comparison.html
"""
SERVE = """\
A web page on this machine: drop pictures, see masks, move the threshold, compare two segmenters,
download masks. It loads only files from `segan export`.

  segan serve segmenter.onnx
  segan serve segmenter.onnx other.onnx --port 8080
"""
DATA = """\
Data sets: which there are, how they are laid out, whether a copy is sound, and fetching them.

  segan data list
  segan data info camvid
  segan data check PICTURES
  segan data check --data camvid --root PATH/TO/CamVid
  segan data get cub200 --out data/cub200
"""
DATA_GET = """\
Fetch a data set's public files, check their digests and unpack them into a new folder.

Run again, a stopped transfer goes on. For a mirror, or a set that has no file of known digest, give
--url, --sha256 and --size. Sets on licence or request say where to ask. Nothing else in segan uses
the network, but segmenters that are named hf://OWNER/NAME.
"""
LEADERBOARD = """\
Run the rows of a suite (methods by data sets by seeds) that are missing, and write its tables and
one page: leaderboard.md, .csv and .html in --out. A stopped suite goes on where it was.

  segan leaderboard smoke
  segan leaderboard cpu --root wbc=PATH/TO/segmentation_WBC --only 'wbc-*' --jobs 2
  segan leaderboard cpu --dry-run
  segan leaderboard cpu --collect

SUITE is a YAML file, or a name in benchmarks/suites (docs/leaderboard.md). Data sets are found in
the folder that the environment variable SEGAN_DATA names, or where --root says.
"""
