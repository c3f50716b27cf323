"""SSL-Cleanse's detector (Zheng et al., 2024): one cluster of images takes too small a trigger."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.encode import encode_images
from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.detector import Detection, chosen_images
from invertune.evidence import Evidence, Finding
from invertune.fields import (
    check_betas,
    check_counts,
    check_is,
    check_positive,
    check_shares,
    check_types,
)
from invertune.finite import check_finite
from invertune.perturb.optimize import fast_attention, frozen
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.work import Work

_CONSISTENT = 1.4826  # times the median deviation is the standard deviation of normal numbers
_SMALLEST = 1e-3  # deviation that sizes are measured in at least: a mask's share is no finer


def reaching_loss(features: Tensor, centers: Tensor) -> Tensor:
    """Return 2 - 2 cosine of triggered images to the cluster that they are to reach, (K,).

    Args:
        features: (K, B, D), unit norm: of each cluster's trigger.
        centers: (K, D), unit norm.
    """
    return 2 - 2 * (features @ centers[:, :, None]).squeeze(2).mean(dim=1)


def anomaly_index(sizes: Sequence[float]) -> float:
    """Return how many deviations the smallest size lies below the median, at least 0.

    The deviation is 1.4826 times the median distance to the median (Rousseeuw and Croux, 1993), at
    least 0.001. The released code multiplies by 1.4826 and divides by 0.6745 too, which is the same
    correction twice, and finds less than half of this.

    Args:
        sizes: One for each cluster.
    """
    middle = statistics.median(sizes)
    distance = statistics.median(abs(size - middle) for size in sizes)
    return (middle - min(sizes)) / max(_CONSISTENT * distance, _SMALLEST)


@dataclass(frozen=True)
class Schedule:
    """How the weight of a trigger's size follows its success.

    Attributes:
        start: The weight once the trigger has been successful; 0 until then.
        factor: The weight is multiplied by this, or divided.
        patience: What so many looks in a row found, success or failure, moves the weight.
        success: Share of images that have to reach the cluster.
    """

    start: float
    factor: float
    patience: int
    success: float

    def __post_init__(self) -> None:
        check_positive(self, "start", "factor")
        check_counts(self, "patience")
        check_shares(self, "success", one=True)

    def follow(self, weights: Tensor, runs: Tensor, reached: Tensor) -> None:
        """Bring weights and counts of looks in a row, (K,) each, up to date, in place.

        Args:
            weights: Of the triggers' sizes.
            runs: Successes in a row, or below 0 failures.
            reached: (K,) bool: what the look found.
        """
        runs.copy_(torch.where(reached, runs.clamp(min=0) + 1, runs.clamp(max=0) - 1))
        up, down = runs >= self.patience, runs <= -self.patience
        raised = (weights * self.factor).where(weights > 0, torch.tensor(self.start))
        weights.copy_(torch.where(up, raised, torch.where(down, weights / self.factor, weights)))
        runs[up | down] = 0


@dataclass(frozen=True)
class Clusters:
    """What the clean images are to the encoder.

    Attributes:
        images: (N, 3, H, W) uint8.
        features: (N, D), unit norm.
        labels: (N,) cluster of each.
        centers: (K, D), unit norm: where a trigger of the cluster is to lead.
    """

    images: Tensor
    features: Tensor
    labels: Tensor
    centers: Tensor

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return images of all other clusters for each one, (K, count) indices, drawn anew."""
        others = self.labels[None] != torch.arange(len(self.centers))[:, None]
        return torch.multinomial(others.float(), count, replacement=True, generator=generator)

    def reached(self, features: Tensor) -> Tensor:
        """Return the share of triggered images whose nearest clean image is of their cluster, (K,).

        Args:
            features: (K, B, D), unit norm.
        """
        nearest = (features @ self.features.T).argmax(dim=2)
        wanted = torch.arange(len(self.centers))[:, None]
        return (self.labels[nearest] == wanted).float().mean(dim=1)


@dataclass(frozen=True)
class SSLCleanse:
    """Cluster clean images, invert a trigger into each cluster, and look for one that is too small.

    Of K-means' K clusters each gets a mask m and a pattern t that lead images of all others to its
    mean embedding: 2 - 2 cosine + weight * mean of m. Triggers are optimized side by side. A
    cluster's size is the smallest mean of m that was successful, 1 without any; the score is
    `anomaly_index`.

    Decided here: the paper finds K by a method that its code does not have, so K is given; the code
    also has the distance to a random member of the cluster, and the mean of m * t as the size,
    which makes dark patterns small, where m alone is what an image loses. Embeddings have unit
    norm, as CLIP's do. The threshold of 2 is Neural Cleanse's, the code has none.

    Attributes:
        name: Name in results.
        images: Clean images, drawn by the seed from all there are.
        clusters: K.
        starts: Runs of K-means, of which the best counts.
        steps: Of Adam.
        batch_size: Images a step and cluster.
        held: Images a look and cluster.
        look_every: Steps between two looks at the success.
        lr, betas: Adam's.
        schedule: Of the size's weight.
        threshold: Score above which a model is flagged.
    """

    name: str
    images: int
    clusters: int
    starts: int
    steps: int
    batch_size: int
    held: int
    look_every: int
    lr: float
    betas: tuple[float, float]
    schedule: Schedule
    threshold: float
    needs: str = "images"
    knows: str = "nothing"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "starts", "steps", "batch_size", "held", "look_every")
        check_counts(self, "images", "clusters", least=2)
        check_positive(self, "lr", "threshold")
        check_is(self, "schedule", Schedule)
        check_betas(self)
        if self.images <= self.clusters:
            raise ValueError(f"images is more than clusters, got {self.images}, {self.clusters}")
        most = max(self.batch_size, self.held)
        if self.images < most:
            raise ValueError(f"images is at least batch_size and held, got {self.images} of {most}")

    @property
    def clean_samples(self) -> int:
        """The images."""
        return self.images

    def work(self, _pairs: int) -> dict[str, Work]:
        """Return what goes through the model."""
        looks = self.steps // self.look_every * self.clusters * self.held
        back = self.steps * self.clusters * self.batch_size
        return {"detect": Work(forward=self.images + looks, back=back)}

    def detect(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Detection:
        """Return the anomaly index; the whole search is made anew after an interruption.

        The evidence holds the smallest trigger, of the cluster that is the least far.
        """
        start = time.perf_counter()
        chosen = self.chosen(len(clean.images), seed)
        groups = self._clusters(model, clean.images[chosen], seed)
        sizes, triggers, curves = self._invert(model, groups, seed)
        score, smallest = anomaly_index(sizes), min(range(len(sizes)), key=sizes.__getitem__)
        findings: dict[str, Finding] = {
            "sizes": sizes,
            "cluster": smallest,
            "images_of_clusters": torch.bincount(groups.labels).tolist(),
            "threshold": self.threshold,
        }
        evidence = Evidence(
            triggers=[triggers.one(smallest).detached()] if sizes[smallest] < 1 else [],
            curves=curves,
            seconds={"inversion": time.perf_counter() - start},
            findings=findings,
        )
        return Detection(score, self.threshold, evidence)

    def chosen(self, count: int, seed: int) -> Tensor:
        """Return which of so many clean images are used: of one seed those that others take, too.

        Raises:
            ValueError: If there are fewer than ``images``.
        """
        return chosen_images(self.name, count, self.images, seed)

    def _clusters(self, model: CLIP, images: Tensor, seed: int) -> Clusters:
        from sklearn.cluster import KMeans

        features = encode_images(model, images, stage=f"{self.name}: encode")
        # Drawn: scikit-learn takes no seed beyond 32 bits.
        state = int(torch.randint(2**31, (), generator=seeded(seed, self.name, "clusters")))
        found = KMeans(self.clusters, n_init=self.starts, random_state=state).fit(features.numpy())
        labels = torch.from_numpy(found.labels_).long()
        if len(labels.bincount().nonzero()) < self.clusters:
            raise ValueError(
                f"{self.name}: the encoder tells fewer than clusters={self.clusters} groups of "
                f"{len(images)} images apart: take fewer"
            )
        means = torch.stack([features[labels == k].mean(dim=0) for k in range(self.clusters)])
        return Clusters(images, features, labels, F.normalize(means, dim=1))

    def _invert(
        self, model: CLIP, groups: Clusters, seed: int
    ) -> tuple[list[float], InvertedTrigger, dict[str, list[float]]]:
        """Return the sizes, the triggers with a leading dimension, and curves of the means."""
        search = _Search(self, model, groups, seed)
        with frozen(model), folded(model), fast_attention(model):
            for step in progress(range(self.steps), self.name):
                search.step(step)
                if (step + 1) % self.look_every == 0 or step + 1 == self.steps:
                    search.look()
        return search.sizes.tolist(), search.best(), search.curves


class _Search:
    """The triggers of all clusters while they are optimized."""

    def __init__(self, of: SSLCleanse, model: CLIP, groups: Clusters, seed: int) -> None:
        self.of, self.model, self.groups = of, model, groups
        self.generator = seeded(seed, of.name, "search")
        count, side = len(groups.centers), groups.images.shape[-1]
        self.free = [
            torch.randn(count, channels, side, side, generator=self.generator)
            .to(model.device)
            .requires_grad_()
            for channels in (1, 3)
        ]
        first, second = of.betas
        self.optimizer = torch.optim.Adam(self.free, lr=of.lr, betas=(first, second))
        self.centers = groups.centers.to(model.device)
        self.weights, self.runs = torch.zeros(count), torch.zeros(count)
        self.sizes = torch.ones(count)
        mask, pattern = (part.detach().cpu() for part in self._parts())
        self.mask, self.pattern = mask.clone(), pattern.clone()
        self.curves: dict[str, list[float]] = {"distance": [], "size": [], "success": []}

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Return masks, (K, 1, H, W), and patterns, (K, 3, H, W), in [0, 1]."""
        mask, pattern = (torch.tanh(part) / 2 + 0.5 for part in self.free)
        return mask, pattern

    def _encode(self, mask: Tensor, pattern: Tensor, count: int) -> Tensor:
        """Return the features of images of other clusters under each trigger, (K, count, D)."""
        index = self.groups.draw(count, self.generator)
        images = to_float(self.groups.images[index.flatten()]).to(self.model.device)
        images = images.view(*index.shape, *images.shape[1:])
        stamped = (1 - mask[:, None]) * images + (mask * pattern)[:, None]
        return self.model.encode_image(stamped.flatten(0, 1)).view(*index.shape, -1)

    def step(self, number: int) -> None:
        """Optimize all triggers by one step."""
        mask, pattern = self._parts()
        distance = reaching_loss(self._encode(mask, pattern, self.of.batch_size), self.centers)
        size = mask.mean(dim=(1, 2, 3))
        # A sum: no trigger's gradient depends on how many others there are.
        loss = (distance + self.weights.to(size) * size).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        check_finite(loss, self.of.name, number)
        self.optimizer.step()
        self.curves["distance"].append(distance.mean().item())
        self.curves["size"].append(size.mean().item())

    @torch.no_grad()
    def look(self) -> None:
        """Keep the triggers that are successful and smaller than before; move the weights."""
        mask, pattern = self._parts()
        share = self.groups.reached(self._encode(mask, pattern, self.of.held).cpu())
        reached = share >= self.of.schedule.success
        size = mask.mean(dim=(1, 2, 3)).cpu()
        better = reached & (size < self.sizes)
        self.sizes = torch.where(better, size, self.sizes)
        self.mask[better], self.pattern[better] = mask.cpu()[better], pattern.cpu()[better]
        self.of.schedule.follow(self.weights, self.runs, reached)
        self.curves["success"].append(float(share.mean()))

    def best(self) -> InvertedTrigger:
        """Return the smallest successful triggers; that of a size of 1 is the first one."""
        return InvertedTrigger("mask", self.mask, self.pattern, torch.zeros_like(self.pattern))
