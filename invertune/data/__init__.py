"""Data sets: what each comes as, and the small world that any machine draws."""

from invertune.data.bundle import (
    CleanData,
    DataBundle,
    ImageTextPairs,
    LabeledImages,
    RetrievalSet,
)
from invertune.data.captions import Captioner
from invertune.data.classes import Classes
from invertune.data.composed import ComposedData
from invertune.data.icons import IconWorld
from invertune.data.images import Images
from invertune.data.part import Part
from invertune.data.scenes import SceneStyle

__all__ = [
    "Captioner",
    "Classes",
    "CleanData",
    "ComposedData",
    "DataBundle",
    "IconWorld",
    "ImageTextPairs",
    "Images",
    "LabeledImages",
    "Part",
    "RetrievalSet",
    "SceneStyle",
]
