"""CLIP models: built, loaded from anywhere, encoded with."""

from invertune.clip.checkpoints import Checkpoint, load_clip, read_checkpoint
from invertune.clip.models import CLIP, ModelSpec

__all__ = ["CLIP", "Checkpoint", "ModelSpec", "load_clip", "read_checkpoint"]
