"""Step 1 by survival: which class still answers when the trigger's budget has become small?

All classes are optimized at once, in several families of triggers, at a budget where every class
can be reached; then the budget shrinks, the less promising classes are left behind, and a class
that a backdoor sends images to survives where natural ones do not. It stands in place of the
untargeted perturbation of Sun et al. (2026), whose favorite is often no backdoor's target; the idea
that a target needs a smaller trigger than other classes is Neural Cleanse's (Wang et al., 2019).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.evidence import Identification, Survival
from invertune.fields import check_all, check_counts, check_positive, check_types
from invertune.perturb.probes import Probe
from invertune.perturb.shrink import Effort, Shrinking, Suspect, effect, optimize
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.work import Work

log = logging.getLogger(__name__)

_LEAST = 1e-6  # margin; a model that takes all images for anything has none
_LAST = 5  # steps whose losses say how promising a class is


@dataclass(frozen=True)
class Pool:
    """The defender's images, cut in two, and the suspect model.

    Attributes:
        suspect: The model with the images that are optimized on.
        held: (M, 3, H, W) uint8 images that triggers are judged on.
        own: (M,) what the model takes those for.
        margin: How much more similar they are to that than to the next class, on average.
    """

    suspect: Suspect
    held: Tensor
    own: Tensor
    margin: float

    @classmethod
    def of(
        cls,
        model: CLIP,
        clean: CleanData,
        images: int,
        held: int,
        temperature: float,
        seed: int,
        stage: str,
    ) -> Pool:
        """Draw both parts, by ``seed`` and ``stage``.

        Raises:
            ValueError: If there are fewer images than both together, or no two classes that the
                model's texts tell apart.
        """
        if len(clean.images) < images + held:
            raise ValueError(
                f"images={images} and held={held} need {images + held} clean images, got "
                f"{len(clean.images)}"
            )
        order = torch.randperm(len(clean.images), generator=seeded(seed, stage, "images"))
        first, second = order[:images], order[images : images + held]
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        judged = clean.images[second]
        suspect = Suspect(model, classifier, clean.images[first], temperature)
        if len(suspect.classes) < 2:
            count = len(clean.prompts)
            raise ValueError(f"the model's texts tell none of the {count} classes apart")
        features = encode_images(model, judged).to(model.device)
        largest = suspect.classified(features).topk(2, dim=1)
        margin = float((largest.values[:, 0] - largest.values[:, 1]).mean())
        return cls(suspect, judged, largest.indices[:, 0].cpu(), max(margin, _LEAST))


@dataclass(frozen=True)
class SurvivalScan:
    """Optimize all classes while the budget shrinks.

    Attributes:
        forms: The families, each with its budgets.
        probes: Kinds of random triggers that are tried beside them.
        efforts: What is done at the first budget, the second, ...; the last effort stands for all
            further ones.
        images: Clean images to optimize on.
        held: Clean images to judge on.
        temperature: Of the cross-entropy; InverTune's L_align has 0.07.
        judged: How many of the smallest budgets decide.
    """

    forms: Sequence[Shrinking]
    efforts: Sequence[Effort]
    images: int
    held: int
    temperature: float
    judged: int
    probes: Sequence[Probe] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_all(self, "forms", Shrinking)
        check_all(self, "probes", Probe)
        check_all(self, "efforts", Effort)
        check_counts(self, "images", "held", "judged")
        check_positive(self, "temperature")
        if not self.forms or not self.efforts:
            raise ValueError("a scan has at least one form and one effort")

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images + self.held

    def __call__(self, model: CLIP, clean: CleanData, *, seed: int) -> Identification:
        """Return the class that leads furthest in any form, and every form's survival.

        Raises:
            ValueError: If there are fewer clean images than `samples`.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        pool = Pool.of(model, clean, self.images, self.held, self.temperature, seed, "scan")
        return leader(self.scan(pool, seed=seed), self.judged, pool.suspect.alike)

    def passes(self, classes: int) -> int:
        """Return how many images all forms send forth and back through a model of so many classes.

        Judging, which only goes forth, is not counted.
        """
        return int(scanning(self.forms, self.efforts, classes, self.held).back)

    def work(self, classes: int) -> Work:
        """Return what goes through a model of so many classes, judging included."""
        drawn = sum(probe.draws * len(probe.budgets) for probe in self.probes)
        own = Work(forward=self.held * drawn, prompts=classes)
        return own + scanning(self.forms, self.efforts, classes, self.held)

    def scan(self, pool: Pool, *, seed: int, stage: str = "scan") -> list[Survival]:
        """Return what survived of all classes in each form, and what random triggers did.

        Raises:
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        classes = pool.suspect.classes
        found = survivals(pool, self.forms, self.efforts, classes, seed=seed, stage=stage)
        return found + probed(pool, self.probes, seed=seed, stage=stage)


def probed(pool: Pool, probes: Sequence[Probe], *, seed: int, stage: str) -> list[Survival]:
    """Return what random triggers of each kind do, of all classes."""
    with pool.suspect.ready(), torch.no_grad():
        return [
            _probed(pool, probe, seeded(seed, stage, probe.name))
            for probe in progress(probes, f"{stage} probes")
        ]


def survivals(
    pool: Pool,
    forms: Sequence[Shrinking],
    efforts: Sequence[Effort],
    classes: Tensor,
    *,
    seed: int,
    stage: str,
) -> list[Survival]:
    """Return what survives of the ``classes``, (K,), in each form.

    Raises:
        NonFiniteLossError: If a loss becomes NaN or infinite.
    """
    with pool.suspect.ready():
        return [
            _survival(pool, form, efforts, classes, seeded(seed, stage, form.name), stage)
            for form in progress(forms, stage)
        ]


def _survival(
    pool: Pool,
    form: Shrinking,
    efforts: Sequence[Effort],
    classes: Tensor,
    generator: torch.Generator,
    stage: str,
) -> Survival:
    suspect, efforts = pool.suspect, form.efforts or efforts
    free = form.family.start(len(classes), suspect.side, generator)
    free = [tensor.to(suspect.model.device) for tensor in free]
    found = Survival(form.name, [], [], [], [])
    promise = torch.zeros(len(classes))
    for place, budget in enumerate(progress(form.budgets, f"{stage} {form.name}")):
        effort = effort_at(efforts, place)
        if effort.classes is not None and effort.classes < len(classes):
            kept = promise.argsort(stable=True)[: effort.classes]
            classes, free = classes[kept], [tensor[kept] for tensor in free]
        free, losses = optimize(
            suspect, form, free, classes, budget, effort, stage=stage, generator=generator
        )
        # Several steps together: the two images of one say little.
        promise = torch.tensor(losses[-_LAST:]).mean(dim=0)
        if place >= len(efforts) - 1:
            with torch.no_grad():
                triggers = form.family.build(free, suspect.side, budget)
            done = effect(suspect, triggers, classes, pool.held, pool.own)
            found.budgets.append(budget)
            found.classes.append(classes.tolist())
            found.success.append(done.success.tolist())
            found.pull.append((done.pull / pool.margin).tolist())
    return found


def _probed(pool: Pool, probe: Probe, generator: torch.Generator) -> Survival:
    """Return what the random triggers of each budget do, by class."""
    suspect, own = pool.suspect, pool.own
    images, classes = to_float(pool.held).to(suspect.model.device), suspect.classes
    count = suspect.classifier.shape[1]
    # Images of all other classes, of all draws.
    others = (probe.draws * (len(own) - torch.bincount(own, minlength=count))).clamp_min(1)
    found = Survival(probe.name, [], [], [], [])
    for budget in probe.budgets:
        drawn = probe.draw(suspect.side, budget, generator)
        hits, pulls = torch.zeros(count), torch.zeros(count)
        for row in range(probe.draws):
            largest = suspect.similarities(drawn.one(row)(images)).topk(2, dim=1)
            label, margins = largest.indices[:, 0].cpu(), largest.values.diff(dim=1).neg()[:, 0]
            moved = label != own
            hits += torch.bincount(label[moved], minlength=count)
            pulls += torch.bincount(label[moved], margins.cpu()[moved], minlength=count)
        found.budgets.append(budget)
        found.classes.append(classes.tolist())
        found.success.append((hits / others)[classes].tolist())
        found.pull.append((pulls / others / pool.margin)[classes].tolist())
    return found


def scanning(
    forms: Sequence[Shrinking], efforts: Sequence[Effort], classes: int, held: int
) -> Work:
    """Return what `survivals` sends through a model.

    Args:
        forms, efforts: As `SurvivalScan` has them.
        classes: How many it begins with.
        held: Images that triggers are judged on.
    """
    work = Work()
    for form in forms:
        own = form.efforts or efforts
        for place in range(len(form.budgets)):
            effort = effort_at(own, place)
            kept = min(classes, effort.classes or classes)
            judged = held * kept if place >= len(own) - 1 else 0
            work += Work(forward=judged, back=kept * effort.steps * effort.images)
    return work


def effort_at(efforts: Sequence[Effort], place: int) -> Effort:
    """Return what is done at a budget: the last effort stands for all further ones."""
    return efforts[min(place, len(efforts) - 1)]


def leader(
    survival: Sequence[Survival], judged: int, alike: Sequence[Sequence[int]] = ()
) -> Identification:
    """Return the class that leads furthest in any form, at any of the ``judged`` smallest budgets.

    The gain is how far it stands above the best other class of that form at that budget; the
    runner-up is the next class by its furthest lead.

    Args:
        survival: What survived, by form.
        judged: How many of the smallest budgets count.
        alike: Groups of classes that count as one.
    """
    known = sorted({label for one in survival for labels in one.classes for label in labels})
    leads = {
        label: max(lead for one in survival for lead in one.leads(label, judged)) for label in known
    }
    order = sorted(known, key=lambda label: -leads[label])
    return Identification(
        target_label=order[0],
        gain=leads[order[0]],
        runner_up=order[1],
        runner_up_gain=leads[order[1]],
        order=order,
        survival=list(survival),
        alike=[list(group) for group in alike],
    )
