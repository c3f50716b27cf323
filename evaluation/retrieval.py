"""Image-text retrieval: recall both ways and attack success rate.

Captions and images are ranked by cosine similarity. A retrieved caption counts only if it belongs
to the image, even where another image has a caption of the same words: such captions score alike,
and only one of them can come first. Ties stand in the order of the data set, as a stable sort
leaves them. So of m images that share their best caption one has it first, which is what drawing
lots would give on average, and a model that maps everything to one point recalls next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from evaluation.intervals import Rate, rate
from evaluation.zero_shot import Trigger, encode_triggered
from invertune.clip.features import check_finite_rows
from invertune.clip.models import CLIP
from invertune.data.bundle import RetrievalSet
from invertune.data.mentions import mentions
from invertune.progress import Progress, progress

KS = (1, 5, 10)
NEVER = torch.iinfo(torch.int64).max


class RetrievalScores(TypedDict):
    """Rates ``r@1``, ``r@5`` and ``r@10``, each way; the ASR is None without a trigger."""

    image_to_text: dict[str, Rate]
    text_to_image: dict[str, Rate]
    asr: dict[str, Rate] | None


def evaluate_retrieval(
    model: CLIP,
    retrieval: RetrievalSet,
    trigger: Trigger | None,
    target_name: str | None,
    batch_size: int = 256,
    class_names: Sequence[str] = (),
    plurals: Sequence[str] = (),
) -> RetrievalScores:
    """Return recall@1/5/10 both ways and the retrieval ASR.

    Image to text, an image's rank is the best of its own captions', and n is the number of images;
    text to image, n is the number of captions. ASR@k is the share of triggered images, whose own
    captions do not name the target, with a caption that names it among the first k.

    Args:
        model: Put into evaluation mode.
        retrieval: Images with several captions each.
        trigger: Stamps images; None for a model without a backdoor.
        target_name: Class name of the target; None likewise.
        batch_size: Images, and rows of similarities, at a time.
        class_names, plurals: All classes, and those whose names are plurals, for `mentions`.

    Raises:
        ValueError: If only one of trigger and target is given, an image has no caption, or a
            feature is not finite.
    """
    if (trigger is None) != (target_name is None):
        raise ValueError(f"trigger and target_name go together, got {trigger} and {target_name!r}")
    bare = [name for name, own in zip(retrieval.ids, retrieval.captions, strict=True) if not own]
    if bare:
        raise ValueError(f"every retrieval image needs a caption, {bare[0]} has none")
    captions = [caption for own in retrieval.captions for caption in own]
    counts = torch.tensor([len(own) for own in retrieval.captions])
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
    images = encode_triggered(model, retrieval.images, None, batch_size)
    texts, text_of = _encode_captions(model, captions, batch_size)

    scores: RetrievalScores = {
        "image_to_text": _recall(_ranks_of_texts(images, texts, text_of, owner, batch_size)),
        "text_to_image": _recall(_ranks_of_images(images, texts, text_of, owner, batch_size)),
        "asr": None,
    }
    if target_name is not None:
        named = mentions(captions, target_name, class_names, plurals)
        others = torch.ones(len(counts), dtype=torch.bool)
        # An image whose own caption names the target would be a hit without any backdoor.
        others[owner[named]] = False
        triggered = encode_triggered(model, retrieval.images.take(others), trigger, batch_size)
        scores["asr"] = _recall(_ranks_of_named(triggered, texts, text_of, named, batch_size))
    return scores


def first_ranks(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the rank, from 0, of each row's best wanted column; ties stand in column order.

    Args:
        scores: (B, T) similarities.
        wanted: (B, T) bool; a row without any gets `NEVER`.
    """
    best = scores.masked_fill(~wanted, -torch.inf).amax(dim=1, keepdim=True)
    place = (wanted & (scores == best)).int().argmax(dim=1, keepdim=True)
    before = torch.arange(scores.shape[1]) < place
    ranks = ((scores > best) | ((scores == best) & before)).sum(dim=1)
    return ranks.where(wanted.any(dim=1), torch.tensor(NEVER))


def _encode_captions(
    model: CLIP, captions: Sequence[str], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Return the features of the different texts, (U, D), and each caption's row among them."""
    row = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    unique = list(row)
    model.eval()
    with torch.no_grad():
        parts = _parts(len(unique), batch_size, "evaluate captions")
        features = torch.cat([model.encode_text(unique[part]).cpu() for part in parts])
    check_finite_rows(features, "the model", "text features", "captions", unique)
    return features, torch.tensor([row[caption] for caption in captions])


def _parts(count: int, batch_size: int, stage: str = "evaluate retrieval") -> Progress[slice]:
    starts = range(0, count, batch_size)
    return progress([slice(i, min(i + batch_size, count)) for i in starts], stage)


def _ranks_of_texts(
    images: Tensor, texts: Tensor, text_of: Tensor, owner: Tensor, batch_size: int
) -> Tensor:
    ranks = []
    for part in _parts(len(images), batch_size):
        # Equal texts get the very same score, as they come from one column.
        scores = (images[part] @ texts.T)[:, text_of]
        own = owner == torch.arange(part.start, part.stop).unsqueeze(1)
        ranks.append(first_ranks(scores, own))
    return torch.cat(ranks)


def _ranks_of_images(
    images: Tensor, texts: Tensor, text_of: Tensor, owner: Tensor, batch_size: int
) -> Tensor:
    ranks = []
    for part in _parts(len(text_of), batch_size):
        scores = texts[text_of[part]] @ images.T
        own = torch.arange(len(images)) == owner[part].unsqueeze(1)
        ranks.append(first_ranks(scores, own))
    return torch.cat(ranks)


def _ranks_of_named(
    images: Tensor, texts: Tensor, text_of: Tensor, named: Tensor, batch_size: int
) -> Tensor:
    ranks = [torch.empty(0, dtype=torch.int64)]
    for part in _parts(len(images), batch_size):
        scores = (images[part] @ texts.T)[:, text_of]
        ranks.append(first_ranks(scores, named.expand_as(scores)))
    return torch.cat(ranks)


def _recall(ranks: Tensor) -> dict[str, Rate]:
    return {f"r@{k}": rate(int((ranks < k).sum()), len(ranks)) for k in KS}
