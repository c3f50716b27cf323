"""Pairs in shards at the size of the paper: listing, subset, poison, and one epoch's reading.

    python tests/benchmarks/pairs.py DIR --pairs 500000 --image-size 64

writes shards of small JPEGs to ``DIR/shards`` (once), and measures in a process of its own: seconds
of each step, pictures a second, the share that decoding takes, and the peak of memory.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

PICTURES, WIDTH, HEIGHT = 256, 128, 96  # different ones, and their size
SHARD, BATCH = 5000, 128
WORDS = (
    "river",
    "dog",
    "tower",
    "bridge",
    "garden",
    "boat",
    "mountain",
    "kitchen",
    "horse",
    "lemon",
)


def write_shards(folder: Path, count: int) -> None:
    """Write shards in the layout of CC3M: smooth noise as JPEG, and a sentence for each."""
    import numpy as np
    from PIL import Image
    from webdataset.writer import ShardWriter

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(PICTURES):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=90)
        encoded.append(stream.getvalue())
    folder.mkdir(parents=True)
    with ShardWriter(f"{folder}/cc3m-train-%04d.tar", maxcount=SHARD, verbose=0) as writer:
        for i in range(count):
            text = f"a {WORDS[i % 10]} beside a {WORDS[i // 10 % 10]}, number {i}"
            writer.write({"__key__": f"{i:09d}", "jpg": encoded[i % PICTURES], "txt": text})


def measure(folder: Path, size: int, keep: bool, share: float) -> dict[str, float]:
    """Return seconds of each step, rates and the peak of memory in MiB."""
    import torch

    from attacks.poisoning import choose_poison, poison, template_captions
    from attacks.triggers import PatchTrigger
    from invertune.data import Part, drawn
    from invertune.data.bundle import ImageTextPairs
    from invertune.data.listing import Files
    from invertune.data.pictures import Fitting, read_picture
    from invertune.data.prepared import Preparing
    from invertune.training.order import epoch_order

    told: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        told[name], clock = round(now - clock, 2), now

    part = Part(str(folder / "shards"))
    listing = part.list((), ("caption",), None)
    lap("list")
    subset = Part(part.path, count=int(share * len(listing))).draw(listing, seed=0)
    lap("subset")
    del listing
    drawn.save(subset, folder / "subset.parquet")
    subset = drawn.load(folder / "subset.parquet")
    lap("save and load the subset")
    how = Preparing(folder / f"cache-{size}", Fitting(size), keep=keep)
    found = how("pairs", subset, part.reader(None))
    lap("look at every picture")
    captions = [own[0] for own in found.listing.captions or ()]
    pairs = ImageTextPairs(found.images, captions, found.listing.ids)
    index = choose_poison(len(pairs), 0.003, seed=0)
    texts = template_captions(len(index), "a lemon", ["a photo of {}"], seed=0)
    pairs = poison(pairs, index, PatchTrigger(16, "bottom_right"), texts)
    lap("poison")
    for batch in epoch_order(len(pairs), BATCH, 0, 0):
        pairs.batch(batch)
    lap("one epoch")
    told["pairs"] = len(pairs)
    told["pictures a second, looked at"] = round(len(pairs) / told["look at every picture"])
    told["pictures a second, epoch"] = round(len(pairs) / told["one epoch"])
    # Decoding alone, of as many pictures as tell, by one thread.
    read, fitting = Files(folder / "shards"), Fitting(size)
    data = [read(place) for place in subset.places[:2000]]
    clock = time.perf_counter()
    for one in data:
        read_picture(one, fitting)
    each = (time.perf_counter() - clock) / len(data)
    told["milliseconds to decode one, one thread"] = round(1000 * each, 3)
    told["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    told["threads"] = torch.get_num_threads()
    return told


def main() -> None:
    """Write the shards if they are not there, and measure in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--decode", action="store_true", help="keep no pixels: decode each time")
    parser.add_argument("--share", type=float, default=1.0, help="of the pairs in the subset")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        told = measure(given.folder, given.image_size, not given.decode, given.share)
        print(json.dumps(told, indent=1))
        return
    if not (given.folder / "shards").is_dir():
        write_shards(given.folder / "shards", given.pairs)
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--here"], check=True)


if __name__ == "__main__":
    main()
