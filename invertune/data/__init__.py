"""Data sets: what each comes as, and the small world that any machine draws."""

from invertune.data.bundle import (
    CleanData,
    DataBundle,
    ImageTextPairs,
    LabeledImages,
    RetrievalSet,
)
from invertune.data.captions import Captioner
from invertune.data.icons import IconWorld
from invertune.data.images import Images
from invertune.data.scenes import SceneStyle

__all__ = [
    "Captioner",
    "CleanData",
    "DataBundle",
    "IconWorld",
    "ImageTextPairs",
    "Images",
    "LabeledImages",
    "RetrievalSet",
    "SceneStyle",
]
