"""CLIP models: open_clip behind one small module that takes pixels in [0, 1]."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

MAX_LOGIT_SCALE = 4.6052  # ln 100, as in CLIP


class CLIP(nn.Module):
    """An open_clip model that normalizes pixels itself and returns unit-norm features.

    Attributes:
        name: Name in configs and results.
        clip: The open_clip model.
        image_size: Side of the images it takes, in pixels.
        head: What classifies in place of the zero-shot classifier, where a model comes with it:
            takes the open_clip model and image features, (B, D), and returns similarities, (B, C).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, clip: nn.Module, tokenizer: Callable[[list[str]], Tensor], image_size: int
    ) -> None:
        super().__init__()
        self.name = name
        self.clip = clip
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.head: nn.Module | None = None
        mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)
        std = torch.tensor(open_clip.OPENAI_DATASET_STD)
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)

    def encode_image(self, images: Tensor) -> Tensor:
        """Return image features, (B, D) float32 of unit norm, of (B, 3, H, W) in [0, 1]."""
        normalized = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return F.normalize(self.visual(normalized).float(), dim=-1)

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
        return found.to(features)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return text features, (B, D) float32 of unit norm, of (B, L) token ids.

        Attention is causal and the end token is pooled, so the padding after the longest text
        changes nothing; it is cut off on the CPU, where a look at the tokens is free.
        """
        clip: Any = self.clip
        if tokens.device.type != "cpu":
            return F.normalize(clip.encode_text(tokens).float(), dim=-1)
        length = int(tokens.argmax(dim=-1).max()) + 1  # the end token has the largest number
        shorter = {
            "clip.positional_embedding": clip.positional_embedding[:length],
            "clip.attn_mask": clip.attn_mask[:length, :length],
        }
        features = functional_call(_TextTower(clip), shorter, (tokens[:, :length],))
        return F.normalize(features.float(), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return text features, (B, D) float32 of unit norm."""
        return self.encode_tokens(self.tokenize(texts).to(self.device))

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


@dataclass(frozen=True)
class ModelSpec:
    """How to build one CLIP: an own open_clip config, or a name that open_clip knows.

    Attributes:
        name: Name in configs and results.
        open_clip_name: Name in open_clip's list, for a model with pre-trained weights.
        weights: open_clip's tag of the weights, such as ``openai``; None for random ones.
        architecture: An open_clip model config (``embed_dim``, ``vision_cfg``, ``text_cfg``), for
            a model of one's own.
        pretrain: Recipe of the pre-training here; None where weights are loaded.
        teacher: Spec of the model whose image embeddings the pre-training matches.
    """

    name: str
    open_clip_name: str | None = None
    weights: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    pretrain: Any = None
    teacher: Any = None

    def build(self, seed: int = 0) -> CLIP:
        """Return the model; an own architecture starts from random weights that ``seed`` decides.

        Raises:
            ValueError: If neither an open_clip name nor an architecture is given.
        """
        if self.open_clip_name is not None:
            return _build_known(self.name, self.open_clip_name, self.weights)
        if not self.architecture:
            raise ValueError(f"model {self.name} needs open_clip_name or architecture")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = {key: _plain(value) for key, value in self.architecture.items()}
            clip = open_clip.CLIP(**config)
        tokenizer = open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
        model = CLIP(self.name, clip, tokenizer, config["vision_cfg"]["image_size"])
        return model.to(memory_format=torch.channels_last)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _build_known(name: str, open_clip_name: str, weights: str | None) -> CLIP:
    clip = open_clip.create_model(open_clip_name, pretrained=weights, precision="fp32")
    config = open_clip.get_model_config(open_clip_name) or {}
    size = config["vision_cfg"]["image_size"]
    model = CLIP(name, clip, open_clip.get_tokenizer(open_clip_name), size)
    return model.to(memory_format=torch.channels_last)


_HEAD = "head."


def weights(model: CLIP) -> dict[str, Tensor]:
    """Return the model's tensors by name: open_clip's, and those of a head with ``head.``."""
    head = {} if model.head is None else model.head.state_dict()
    return {**model.clip.state_dict(), **{_HEAD + name: value for name, value in head.items()}}


def save_weights(model: CLIP, path: Path) -> None:
    """Write the model's weights as safetensors."""
    tensors = {name: value.contiguous() for name, value in weights(model).items()}
    safetensors.torch.save_file(tensors, path)


def load_weights(model: CLIP, path: Path) -> CLIP:
    """Read weights written by `save_weights` into ``model`` and return it.

    Raises:
        ValueError: If the file is not a safetensors file, or does not fit the model.
    """
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # the library raises a type of its own
        raise ValueError(f"{path} is not a safetensors checkpoint: {error}") from error
    differences = fit_errors(tensors, weights(model))
    if differences:
        raise ValueError(f"{path} does not fit {model.name}: tensors [{'; '.join(differences)}]")
    own = {name for name in tensors if name.startswith(_HEAD)}
    model.clip.load_state_dict({name: tensors[name] for name in tensors.keys() - own})
    if model.head is not None:
        model.head.load_state_dict({name.removeprefix(_HEAD): tensors[name] for name in own})
    return model


def fit_errors(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], show: int = 5
) -> list[str]:
    """Return the first differences of two states, a phrase each: shapes, then missing, then extra.

    Args:
        state: What was read.
        expected: What the model has.
        show: How many differences to return at most.
    """
    shapes = [
        f"{name} is {list(value.shape)}, the model has {list(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    missing = [f"{name} is missing" for name in expected if name not in state]
    extra = [f"{name} is not in the model" for name in state if name not in expected]
    return [*shapes, *missing, *extra][:show]


@functools.cache
def fast_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device is fast at it, else float32."""
    fast = device.type == "cuda" or (device.type == "cpu" and fast_bfloat16())
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Return bfloat16 autocast where the device is fast at it, else a context without effect."""
    enabled = precision(device) is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@torch.no_grad()
def encode_images(model: CLIP, images: Tensor, batch_size: int = 256) -> Tensor:
    """Return the features, (N, D) float32 on the CPU, of (N, 3, H, W) uint8 or [0, 1] images.

    The model is put into evaluation mode.
    """
    model.eval()
    features = []
    for chunk in images.split(batch_size):  # type: ignore[no-untyped-call]
        pixels = chunk.to(model.device)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        with autocast(model.device):
            features.append(model.encode_image(pixels).cpu())
    return torch.cat(features)


@torch.no_grad()
def zero_shot_classifier(
    model: CLIP, prompts: Sequence[str], templates: Sequence[str], batch_size: int = 512
) -> Tensor:
    """Return the zero-shot classifier, (D, C): columns are unit-norm means over the templates."""
    model.eval()
    texts = [template.format(prompt) for prompt in prompts for template in templates]
    features = torch.cat(
        [model.encode_text(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]
    )
    means = features.view(len(prompts), len(templates), -1).mean(dim=1)
    return F.normalize(means, dim=-1).T.contiguous()


def frequency(features: Tensor, classifier: Tensor) -> Tensor:
    """Return the share of images predicted as each class, (C,).

    Args:
        features: (N, D), unit norm.
        classifier: (D, C) zero-shot classifier.
    """
    predicted = (features @ classifier).argmax(dim=1)
    return torch.bincount(predicted, minlength=classifier.shape[1]).float() / len(features)
