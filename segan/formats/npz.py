"""Everything as arrays, in one compressed NumPy archive per picture."""

import io

import numpy as np

from segan.formats.found import Found


def encode_npz(found: Found) -> bytes:
    """An archive for `numpy.load(file, allow_pickle=False)`.

    It holds `labels` [H, W], `objects` [H, W] (0 for none), `categories` [B], `category_names` and,
    for a named object, `probability` float32 [H, W]; integers are of the least type that holds
    them.
    """
    arrays = {
        "labels": least_integers(found.labels),
        "objects": least_integers(found.objects),
        "categories": found.object_categories.astype(np.int32),
        "category_names": np.array(found.category_names),
    }
    if found.probability is not None:
        arrays["probability"] = found.probability
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def least_integers(labels: np.ndarray) -> np.ndarray:
    """Integers from 0 as uint8, uint16 or int32, whichever is the least that holds them."""
    most = int(labels.max(initial=0))
    return labels.astype(np.uint8 if most < 256 else np.uint16 if most < 65536 else np.int32)
