"""CLIP models: open_clip behind one small module that takes pixels in [0, 1]."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from invertune.clip.fast import quicken
from invertune.clip.features import check_finite_rows
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.texts import Tokenizer

MAX_LOGIT_SCALE = 4.6052  # ln 100, as in CLIP
_TEXT_PARTS, _MANY_TEXTS = 2, 32


class CLIP(nn.Module):
    """An open_clip model that normalizes pixels itself and returns unit-norm features.

    Attributes:
        name: Name in configs and results.
        clip: The open_clip model.
        image_size: Side of the images it takes, in pixels.
        preprocessing: What its images went through; the model itself normalizes them.
        head: What classifies in place of the zero-shot classifier, where a model comes with it:
            takes the open_clip model and image features, (B, D), and returns similarities, (B, C).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        clip: nn.Module,
        tokenizer: Tokenizer,
        image_size: int,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.clip = clip
        quicken(clip)
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.head: nn.Module | None = None
        self.preprocess_by(preprocessing or Preprocessing())

    def preprocess_by(self, preprocessing: Preprocessing) -> None:
        """Normalize images by another mean and deviation from now on."""
        self.preprocessing = preprocessing
        for part in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, part)).view(1, 3, 1, 1)
            self.register_buffer(part, values.to(self.logit_scale.device), persistent=False)

    def encode_image(self, images: Tensor, unit: bool = True) -> Tensor:
        """Return image features, (B, D) float32, of (B, 3, H, W) in [0, 1].

        Args:
            images: The images.
            unit: Whether features get unit norm; else they are as long as the tower makes them.

        Raises:
            ValueError: If they are of another size than the model takes, or a feature is not
                finite; a model in training mode has its loss looked at.
        """
        side, (height, width) = self.image_size, images.shape[-2:]
        if (height, width) != (side, side):
            raise ValueError(
                f"{self.name} takes images of {side} x {side} pixels, got {width} x {height}"
            )
        normalized = self.normalize(images).contiguous(memory_format=torch.channels_last)
        features = self.visual(normalized).float()
        features = F.normalize(features, dim=-1) if unit else features
        return features if self.training else self._finite(features, "image")

    def normalize(self, images: Tensor) -> Tensor:
        """Return images, (B, 3, H, W) in [0, 1], in the units that the image tower takes."""
        return torch.addcmul(-self.mean / self.std, images, 1 / self.std)

    def similarities(self, features: Tensor, classifier: Tensor) -> Tensor:
        """Return the cosine similarities of image features, (B, D), to the classes, (B, C).

        Args:
            features: Unit norm.
            classifier: (D, C) zero-shot classifier; a model with a ``head`` of its own does not
                use it.
        """
        if self.head is None:
            return features @ classifier
        found: Tensor = self.head(self.clip, features.to(self.device))
        what = "similarities of its head"
        return check_finite_rows(found, self.name, what, "images").to(features)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return text features, (B, D) float32 of unit norm, of (B, L) token ids.

        Attention is causal and the end token is pooled, so the padding after a text changes
        nothing; it is cut off on the CPU, where a look at the tokens is free, and texts of like
        lengths go through the tower together.

        Raises:
            ValueError: If one is not finite; a model in training mode has its loss looked at.
        """
        features = self._encode_tokens(tokens)
        return features if self.training else self._finite(features, "text")

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        clip: Any = self.clip
        if tokens.device.type != "cpu":
            return F.normalize(clip.encode_text(tokens).float(), dim=-1)
        lengths = tokens.argmax(dim=-1) + 1  # the end token has the largest number
        order = lengths.argsort(stable=True)
        parts = order.chunk(_TEXT_PARTS if len(tokens) >= _MANY_TEXTS else 1)
        features = torch.cat([self._encode_shortened(tokens[part]) for part in parts])
        return F.normalize(features[order.argsort()].float(), dim=-1)

    def _encode_shortened(self, tokens: Tensor) -> Tensor:
        clip: Any = self.clip
        length = int(tokens.argmax(dim=-1).max()) + 1
        shorter = {
            "clip.positional_embedding": clip.positional_embedding[:length],
            "clip.attn_mask": clip.attn_mask[:length, :length],
        }
        return functional_call(_TextTower(clip), shorter, (tokens[:, :length],))  # type: ignore[no-any-return]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return text features, (B, D) float32 of unit norm.

        Raises:
            ValueError: If one is not finite; names the first such text.
        """
        features = self._encode_tokens(self.tokenize(texts).to(self.device))
        return self._finite(features, "text", texts)

    def _finite(self, features: Tensor, kind: str, of: Sequence[str] | None = None) -> Tensor:
        return check_finite_rows(features, self.name, f"{kind} features", f"{kind}s", of)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids, (B, L); equal texts are tokenized once."""
        unique = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(unique)}
        return self.tokenizer(unique)[[place[text] for text in texts]]

    @property
    def visual(self) -> nn.Module:
        """The image tower."""
        return self.clip.visual  # type: ignore[return-value]

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor on cosine similarities, a scalar parameter."""
        return self.clip.logit_scale  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.mean.device

    @property
    def parameter_count(self) -> int:
        """Number of parameters, both towers."""
        return sum(p.numel() for p in self.parameters())

    def visual_layers(self) -> dict[str, nn.Module]:
        """Return the layers whose activations are compared, in order of depth.

        The four stages of a ResNet (`layer1` to `layer4`), or the blocks of a ViT (`block0`, ...).

        Raises:
            ValueError: If the image tower is of neither kind.
        """
        visual: Any = self.visual
        if hasattr(visual, "layer1"):
            return {f"layer{i}": getattr(visual, f"layer{i}") for i in range(1, 5)}
        if hasattr(visual, "transformer"):
            return {f"block{i}": block for i, block in enumerate(visual.transformer.resblocks)}
        kind = type(visual).__name__
        raise ValueError(f"{kind} has neither ResNet stages nor transformer blocks")

    @contextlib.contextmanager
    def record(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Collect the named layers' outputs of every forward pass inside the block.

        A ResNet stage gives (B, C, H, W), a ViT block (B, tokens, C); the latest pass overwrites.
        """
        outputs: dict[str, Tensor] = {}
        modules = self.visual_layers()

        def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs[name] = output

        handles = [
            modules[name].register_forward_hook(functools.partial(keep, name)) for name in layers
        ]
        try:
            yield outputs
        finally:
            for handle in handles:
                handle.remove()


class _TextTower(nn.Module):
    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        return self.clip.encode_text(tokens)  # type: ignore[no-any-return, operator]
