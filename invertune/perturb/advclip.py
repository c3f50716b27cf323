"""AdvCLIP (Zhou et al., 2023): a GAN makes the universal patch of InverTune's step 1.

InverTune's paper takes its perturbation from AdvCLIP, a square patch that a generator network
learns to draw. The objective is untargeted, and has to be: a patch that is told where to send
images says nothing about where a backdoor sends them. Still, universal patches collapse to a few
hub classes on models without a backdoor too, so a gain means something only next to the gain that
the same generator gives on clean models.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import to_float
from invertune.fields import check_counts, check_shares, check_types
from invertune.perturb.advclip_patch import PatchTraining
from invertune.perturb.triggers import InvertedTrigger
from invertune.seeds import seeded


def nearest_texts(features: Tensor, classifier: Tensor) -> Tensor:
    """Return the features of the class prompt that lies nearest to each image, (N, D).

    Args:
        features: (N, D), unit norm.
        classifier: (D, C) zero-shot classifier, columns of unit norm.
    """
    return classifier.T[(features @ classifier).argmax(dim=1)]


@dataclass(frozen=True, kw_only=True)
class AdvCLIPGenerator(PatchTraining):
    """AdvCLIP's way to make an untargeted universal perturbation: a GAN with a topology loss.

    AdvCLIP needs image-text pairs and uses captions. InverTune's defender has none, only class
    names: the text of an image is the class prompt that the suspect model itself finds nearest.

    Attributes:
        name: Name in results.
        starts: Random starts; the class frequencies are averaged over them.
        clean_gain: The gain that this generator gives its favorite class on clean models; its
            votes are read in multiples of it.
    """

    name: str
    starts: int
    clean_gain: float

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "clean_gain", one=True)
        check_counts(self, "starts")
        super().__post_init__()

    def perturb(
        self,
        model: CLIP,
        images: Tensor,
        features: Tensor,
        *,
        classifier: Tensor,
        seed: int,
        start: int,
    ) -> InvertedTrigger:
        """Return a patch for images, (N, 3, H, W) uint8, with clean ``features``, (N, D).

        Args:
            model: Stays as it is.
            images, features: What to perturb, and where the model puts it.
            classifier: (D, C) zero-shot classifier; its columns are the texts.
            seed, start: Decide every random number.

        Raises:
            NonFiniteLossError: If the generator's loss becomes NaN or infinite.
        """

        def seen(index: Tensor) -> tuple[Tensor, Tensor]:
            clean = to_float(images[index]).to(model.device)
            return clean, features[index.to(features.device)]

        source = seeded(seed, "identify", self.name, start)
        patch, _ = self.draw(
            model, nearest_texts(features, classifier), seen, source, stage="identify"
        )
        return patch
