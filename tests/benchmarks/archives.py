"""OpenAI-format TorchScript archives: the same features, and the time to read them.

``python tests/benchmarks/archives.py [--repeat 5]`` makes archives of fp16 weights, as OpenAI's
are, of open_clip's own RN50 and ViT-B/32 with random weights, scripted as a whole. It prints the
largest difference of a feature to the model that was written, the time of `read_tensors`, and that
of torch.jit.load, which compiles the code in the archive.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch

from invertune.clip.checkpoints import load_clip
from invertune.clip.models import CLIP
from invertune.clip.tensor_files import read_tensors

TEXTS = ["a picture of a cat", "a dog", "two keys on a table"]


def make(name: str, path: Path) -> CLIP:
    """Write an archive, and return the model whose weights, rounded to fp16, it holds."""
    clip = open_clip.create_model(name, force_quick_gelu=True).eval()
    state = {k: v.half() if v.is_floating_point() else v for k, v in clip.state_dict().items()}
    clip.load_state_dict(state)
    for extra, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        vars(clip).pop(extra, None)  # a plain number in open_clip, a tensor in OpenAI's archives
        clip.register_buffer(extra, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(clip.half()), path)
    return CLIP(name, clip.float(), open_clip.get_tokenizer(name), 224).eval()


def torchs_own(path: Path) -> None:
    """Read an archive as this program did before, with the code in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dict(torch.jit.load(str(path), map_location="cpu").state_dict())


def seconds(read: Callable[[Path], object], path: Path, repeat: int) -> float:
    """Return the median time."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        read(path)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def difference(one: CLIP, other: CLIP) -> float:
    """Return the largest difference of a feature."""
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    pairs = [(m.encode_image(images), m.encode_text(TEXTS)) for m in (one, other)]
    return max(float((a - b).abs().max()) for a, b in zip(*pairs, strict=True))


def main() -> None:
    """Print a line for each architecture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as folder:
        for name in ("RN50", "ViT-B-32"):
            path = Path(folder) / f"{name}.pt"
            original = make(name, path)
            apart = difference(load_clip(path), original)
            ours, theirs = (seconds(read, path, repeat) for read in (read_tensors, torchs_own))
            print(
                f"{name}: {path.stat().st_size / 2**20:.0f} MiB, features differ by {apart:.1e}, "
                f"read in {ours:.3f} s, by torch.jit in {theirs:.3f} s: {theirs / ours:.1f} times"
            )


if __name__ == "__main__":
    main()
