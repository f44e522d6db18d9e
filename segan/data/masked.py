"""The one view that sees ground truth, for the supervised bound of a table and nothing else.

`tests/test_layers.py` names it as the exception, and makes sure that there is no other.
"""

from typing import ClassVar

from segan.data.sample import Instances, Mask, Sample
from segan.data.targets import Target, TargetView
from segan.errors import DataError


class MaskedView(TargetView):
    """Parts of pictures, or windows around boxes, with their ground-truth masks."""

    needs: ClassVar[frozenset[str]] = frozenset({"images", "masks"})

    def target(self, sample: Sample, unit: int | None) -> Target:
        """The truth of a picture's objects, or of the object of one box.

        Raises:
            DataError: The picture has no mask.
        """
        match sample.truth:
            case Instances(labels=labels):
                objects = labels > 0 if unit is None else labels == unit + 1
                return Target(objects[None].float())
            case Mask(mask=mask, ignore=ignore):
                known = None if ignore is None else (~ignore)[None].float()
                return Target(mask[None].float(), known)
        raise DataError(f"{sample.name} has no mask to learn from; remove it or add its mask")
