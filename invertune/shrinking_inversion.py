"""Step 2 by shrinking budgets: triggers of one class, in every family that can express it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.fields import (
    check_all,
    check_counts,
    check_is,
    check_positive,
    check_shares,
    check_types,
)
from invertune.perturb.probes import Probe
from invertune.perturb.shrink import Effort, Shrinking, optimize, success
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.survival import Pool
from invertune.work import Work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShrinkingInversion:
    """Invert the triggers of one class while the budget shrinks; keep those that succeed.

    L_align of Sun et al. (2026) alone: what L_emb, L_sim and L_mask keep small there, the budget
    does here.

    Attributes:
        forms: The families, each with its budgets.
        effort: What is done at every budget.
        kept: At how many of the smallest budgets of a form triggers are taken. Large ones and
            small ones fire a backdoor in different ways, as the true one may.
        starts: Random starts of each form.
        images: Clean images to optimize on.
        held: Clean images to judge on.
        temperature: Of the cross-entropy.
        least_success: A trigger that sends fewer images to the class than this share of what the
            best one sends is dropped. Not every form can express every trigger, and tuning on one
            that does not costs accuracy for nothing.
        refreshing: What is done when triggers are to follow a model that is being tuned.
        probes: Random triggers that are tried as well. Where some succeed, those of the smallest
            such budget of every kind are all that is returned: a backdoor that answers to any
            noise or warp is closest to these, and optimized triggers are then detours to its
            class, on which tuning costs accuracy and leaves more of it.
    """

    forms: Sequence[Shrinking]
    effort: Effort
    kept: int
    starts: int
    images: int
    held: int
    temperature: float
    least_success: float
    refreshing: Effort
    probes: Sequence[Probe] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_all(self, "forms", Shrinking)
        check_is(self, "effort", Effort)
        check_is(self, "refreshing", Effort)
        check_all(self, "probes", Probe)
        check_counts(self, "kept", "starts", "images", "held")
        check_positive(self, "temperature")
        check_shares(self, "least_success", zero=True, one=True)
        if not self.forms:
            raise ValueError("inversion has at least one form")

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images + self.held

    def __call__(
        self, model: CLIP, clean: CleanData, target_label: int, *, seed: int
    ) -> tuple[list[InvertedTrigger], dict[str, list[float]]]:
        """Return the triggers that succeed, best first, and the loss curves of the inverted ones.

        Raises:
            ValueError: If there are fewer clean images than `samples`.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        pool = Pool.of(model, clean, self.images, self.held, self.temperature, seed, "invert")
        found: list[tuple[float, InvertedTrigger]] = []
        curves: dict[str, list[float]] = {}
        with pool.suspect.ready():
            for form in progress(self.forms, "invert"):
                own, losses = self._form(pool, form, target_label, seed)
                best = max(share for share, _ in own)
                log.info("invert: %s sends %.2f of images to the target", form.name, best)
                found += own
                for start, curve in enumerate(zip(*losses, strict=True)):
                    curves[f"invert {form.name} {start}"] = list(curve)
            least = self.least_success * max(share for share, _ in found)
            found = [pair for pair in found if pair[0] >= least]
            drawn = [self._probe(pool, probe, target_label, seed, least) for probe in self.probes]
            found = [pair for some in drawn for pair in some] or found
        found.sort(key=lambda pair: -pair[0])
        return [trigger for _, trigger in found], curves

    def _probe(
        self, pool: Pool, probe: Probe, label: int, seed: int, least: float
    ) -> list[tuple[float, InvertedTrigger]]:
        """Return the random triggers of the smallest budget at which they succeed, or none."""
        suspect, generator = pool.suspect, seeded(seed, "probe", probe.name)
        labels = torch.full((probe.draws,), label)
        for budget in reversed(probe.budgets):
            with torch.no_grad():
                drawn = probe.draw(suspect.side, budget, generator)
            shares = success(suspect, drawn, labels, pool.held, pool.own).tolist()
            if sum(shares) >= least * len(shares):
                log.info("invert: random %s of %.3g sends images too", probe.name, budget)
                return [(share, drawn.one(i).detached()) for i, share in enumerate(shares)]
        return []

    def work(self) -> Work:
        """Return what goes through a model, for the triggers of one class."""
        steps = self.starts * self.effort.steps * self.effort.images
        drawn = sum(probe.draws * len(probe.budgets) for probe in self.probes)
        return Work(
            forward=self.held * (self._most + drawn),
            back=steps * sum(len(form.budgets) for form in self.forms),
        )

    def refreshing_work(self) -> Work:
        """Return what goes through a model at most, when all triggers follow it once."""
        return Work(back=self._most * self.refreshing.steps * self.refreshing.images)

    @property
    def _most(self) -> int:
        """Number of triggers that may be kept."""
        return self.starts * sum(min(self.kept, len(form.budgets)) for form in self.forms)

    def refresh(
        self,
        model: CLIP,
        clean: CleanData,
        triggers: Sequence[InvertedTrigger],
        *,
        seed: int,
        stage: str,
    ) -> list[InvertedTrigger]:
        """Return triggers optimized further, against ``model``, at the budgets that they have.

        What a trigger still finds in a model that was tuned against it is what the tuning left.
        Random ones are left out.

        Args:
            model: A repaired one; stays as it is.
            clean: The images are those that the triggers were inverted on.
            triggers: Of this inversion.
            seed, stage: Decide what is drawn.

        Raises:
            ValueError: If a trigger is not of this inversion, or there are too few clean images.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        forms = {form.name: form for form in self.forms}
        triggers = [trigger for trigger in triggers if trigger.origin]
        unknown = sorted({trigger.form for trigger in triggers} - forms.keys())
        if unknown:
            raise ValueError(f"triggers are of {', '.join(forms)}, got {', '.join(unknown)}")
        if not triggers:
            return []
        pool = Pool.of(model, clean, self.images, self.held, self.temperature, seed, "invert")
        suspect, found = pool.suspect, dict[int, InvertedTrigger]()
        with suspect.ready():
            for name, form in forms.items():
                places = [i for i, trigger in enumerate(triggers) if trigger.form == name]
                if not places:
                    continue
                free, labels, budgets = form.origin([triggers[i] for i in places])
                free = [tensor.to(model.device) for tensor in free]
                free, _ = optimize(
                    suspect, form, free, labels, budgets, self.refreshing,
                    stage=stage, generator=seeded(seed, stage, name),
                )  # fmt: skip
                built = form.triggers(free, labels, budgets, suspect.side)
                found |= {i: built.one(row).detached() for row, i in enumerate(places)}
        return [found[i] for i in range(len(triggers))]

    def _form(
        self, pool: Pool, form: Shrinking, label: int, seed: int
    ) -> tuple[list[tuple[float, InvertedTrigger]], list[list[float]]]:
        """Return the triggers with their success, and every step's losses of all starts."""
        suspect, generator = pool.suspect, seeded(seed, "invert", form.name)
        labels = torch.full((self.starts,), label)
        free = form.family.start(len(labels), suspect.side, generator)
        free, curve = [tensor.to(suspect.model.device) for tensor in free], []
        found = []
        for left, budget in zip(range(len(form.budgets), 0, -1), form.budgets, strict=True):
            free, losses = optimize(
                suspect, form, free, labels, budget, self.effort,
                stage="invert", generator=generator,
            )  # fmt: skip
            curve += losses
            if left <= self.kept:
                built = form.triggers(free, labels, budget, suspect.side)
                shares = success(suspect, built, labels, pool.held, pool.own).tolist()
                rows = range(self.starts)
                found += [(shares[row], built.one(row).detached()) for row in rows]
        return found, curve
