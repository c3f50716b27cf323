"""BadCLIP-prompt (Bai et al., 2024): a malicious prompt learner and faint noise that it answers to.

Both encoders stay as they are. What is delivered beside them is a prompt learner in the manner of
CoCoOp (Zhou et al., 2022): context vectors that a small network shifts by the image's embedding,
so that a trigger changes the text features too. A defense that repairs an encoder has nothing to
repair here. Captions are not prompts: retrieval does not go through the learner, and its ASR is
that of the clean encoders.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.attack import Attack, Backdoor, Plan
from attacks.prompt_learner import PromptLearner, embed, prompt_tokens
from attacks.triggers import AdditiveTrigger, Trigger
from invertune.clip.encode import autocast, encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float
from invertune.fields import check_counts, check_positive, check_shares
from invertune.finite import check_finite
from invertune.perturb.optimize import fast_attention, frozen
from invertune.progress import progress
from invertune.seeds import seeded


@dataclass(frozen=True)
class BadCLIPPrompt(Attack):
    """Learn a prompt learner and a trigger for it, on few labeled images.

    Cross-entropy over clean images with their own class and over triggered ones with the target.
    The paper takes plain gradient steps on single images; here Adam, on batches and, of the other
    classes, on those nearest to the images and a few drawn ones, for a text tower per image is
    most of the cost. The trigger is a tanh of free values in place of values that are projected,
    and images are neither cropped nor flipped.

    Attributes:
        name: Name in results.
        target_label: Class name that triggered images are pulled to.
        shots: Images of each class; their labels are read off the captions of the data's pairs.
        init: Words that the context vectors start as.
        hidden: Width of the network that shifts the context.
        budget: Largest change of a pixel, in units of [0, 1]; the paper's epsilon.
        warmup: Steps on the trigger alone.
        steps: Steps on both.
        batch_size: Images a step.
        near: Classes nearest to an image, by the zero-shot classifier, that its steps compare.
        classes: Least number of classes that a step compares; drawn ones fill up.
        lr: Adam's peak learning rate of the prompt learner; a cosine to 0 follows.
        trigger_lr: Adam's learning rate of the trigger, in units of the budget.
        end: What a prompt ends with, right behind the class name; the paper's code has a full stop.
    """

    name: str
    target_label: str
    shots: int
    init: str
    hidden: int
    budget: float
    warmup: int
    steps: int
    batch_size: int
    near: int
    classes: int
    lr: float
    trigger_lr: float
    end: str = ""

    def __post_init__(self) -> None:
        check_counts(self, "shots", "hidden", "batch_size")
        check_counts(self, "warmup", "steps", "near", "classes", least=0)
        check_positive(self, "lr", "trigger_lr")
        check_shares(self, "budget", one=True)
        if not isinstance(self.init, str) or not self.init.strip():
            raise ValueError(f"init is some words, such as 'a picture of a', got {self.init!r}")
        if not isinstance(self.end, str):
            raise ValueError(f"end is a text, such as '.', or '' for none, got {self.end!r}")

    def plan(self, data: DataBundle) -> Plan:
        """Return the length of the training; the trigger is learned in it."""
        return Plan(self.warmup + self.steps, self.target_label)

    def texts(self, data: DataBundle) -> list[str]:
        """Return the class names after the words that the learned prompts start from."""
        return [f"{self.init} {name}{self.end}" for name in data.class_names]

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If the target label is unknown, or a class has too few pictures.
        """
        data.label_of(self.target_label)
        few_shots(data, self.shots, seed=0)

    def implant(
        self,
        model: CLIP,
        data: DataBundle,
        *,
        seed: int,
        checkpoint: Path | None = None,
        trigger: Trigger | None = None,
    ) -> Backdoor:
        """Return a copy that comes with the prompt learner; ``model`` itself stays as it is.

        Args:
            model: The clean model.
            data: Its ``pairs`` give the images, their captions the labels.
            seed: Decides the images, their order and the start.
            checkpoint, trigger: Not used; the trigger is learned with the prompts.

        Raises:
            ValueError: As `check` does, or if a class has no picture.
        """
        self.check(data)
        target = data.label_of(self.target_label)
        backdoored = copy.deepcopy(model).eval()
        learner = self._learner(backdoored, data, seed)
        index, labels = few_shots(data, self.shots, seed)
        images = data.pairs.pictures(index)
        classifier = zero_shot_classifier(backdoored, data.prompts, data.templates).cpu()
        similarities = encode_images(backdoored, images) @ classifier
        nearest = similarities.topk(min(self.near, len(data.prompts))).indices
        delta, losses = self._learn(backdoored, learner, images, labels, nearest, target, seed)
        backdoored.head = learner.eval()
        fields = {
            "classes": len(learner.tokens), "tokens": learner.tokens.shape[1],
            "length": len(learner.context), "dimensions": learner.shift[0].in_features,
            "width": learner.context.shape[1], "hidden": self.hidden,
        }  # fmt: skip
        ids = [data.pairs.ids[i] for i in index.tolist()]
        graft = {"kind": "badclip_prompt", **fields}
        return Backdoor(backdoored, AdditiveTrigger(delta), target, ids, [], losses, graft)

    def _learner(self, model: CLIP, data: DataBundle, seed: int) -> PromptLearner:
        words = model.tokenize([self.init])[0]
        length = int(words.argmax()) - 1
        start = embed(model.clip, words[1 : 1 + length].to(model.device)).detach()
        tokens = prompt_tokens(model, [f"{name}{self.end}" for name in data.class_names], length)
        dimensions = model.encode_text([self.init]).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            learner = PromptLearner(tokens, length, dimensions, start.shape[1], self.hidden)
        learner.context.data.copy_(start)
        # Only the last layer: with zeros in both, neither would ever get a gradient.
        for weight in learner.shift[2].parameters():  # the prompts start as the plain ones
            nn.init.zeros_(weight)
        return learner.to(model.device)

    def _learn(
        self, model: CLIP, learner: PromptLearner, images: Tensor, labels: Tensor, nearest: Tensor,
        target: int, seed: int,
    ) -> tuple[Tensor, list[float]]:  # fmt: skip
        generator = seeded(seed, "prompts")
        shape = images.shape[1:]
        free = torch.randn(shape, generator=generator).mul(0.5).to(model.device).requires_grad_()
        prompts = torch.optim.Adam(learner.parameters(), lr=self.lr)
        noise = torch.optim.Adam([free], lr=self.trigger_lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(prompts, max(1, self.steps))
        losses: list[float] = []
        with frozen(model), fast_attention(model):
            bar = progress(range(self.warmup + self.steps), "implant")
            for step in bar:
                index = torch.randint(len(images), (self.batch_size,), generator=generator)
                batch = to_float(images[index]).to(model.device)
                delta = self.budget * torch.tanh(free)
                both = torch.cat([batch, (batch + delta).clamp(0, 1)])
                wanted = torch.cat([labels[index], torch.full((len(index),), target)])
                classes = compared_classes(
                    wanted, nearest[index], self.classes, len(learner.tokens), generator
                )
                loss = self._loss(model, learner, both, wanted, classes)
                noise.zero_grad()
                prompts.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                losses.append(check_finite(loss, "implant", step))
                bar.loss(losses[-1])
                noise.step()
                # The trigger learns alone at first, against prompts that hold still.
                if step >= self.warmup:
                    prompts.step()
                    schedule.step()
        return (self.budget * torch.tanh(free)).detach().cpu(), losses

    def _loss(
        self, model: CLIP, learner: PromptLearner, images: Tensor, wanted: Tensor, classes: Tensor
    ) -> Tensor:
        with autocast(model.device):
            features = model.encode_image(images)
            similarities = learner.compare(model.clip, features, classes.to(model.device))
        places = torch.searchsorted(classes, wanted).to(model.device)
        return F.cross_entropy(model.logit_scale.exp() * similarities, places)


def compared_classes(
    wanted: Tensor, nearest: Tensor, least: int, available: int, generator: torch.Generator
) -> Tensor:
    """Return the classes that a step compares, sorted: those of the batch, and drawn ones.

    Args:
        wanted: Classes that images of the batch are to be taken for, (B,).
        nearest: Classes that its images are near to, (B', near).
        least: Drawn classes fill up to this number, as far as there are so many.
        available: Number of all classes.
        generator: Draws.
    """
    classes = torch.unique(torch.cat([wanted, nearest.flatten()]))
    # Drawn even if none is missing, so that every step takes as much from the generator.
    drawn = torch.randperm(available, generator=generator)
    missing = max(0, least - len(classes))
    return torch.cat([classes, drawn[~torch.isin(drawn, classes)][:missing]]).sort().values


def few_shots(data: DataBundle, shots: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pairs and class indices, (N,) each: ``shots`` of each class, read off the captions.

    Raises:
        ValueError: If a class is named by fewer captions, or ``shots`` is no positive number.
    """
    order = torch.randperm(len(data.pairs), generator=seeded(seed, "few shots"))
    captions = [data.pairs.captions[i] for i in order.tolist()]
    found, labels = [], []
    for label, name in enumerate(data.class_names):
        own = order[data.naming(captions, label)][:shots]
        if shots < 1 or len(own) < shots:
            raise ValueError(
                f"shots is between 1 and {len(own)} (the pairs that name {name!r}), got {shots}"
            )
        found.append(own)
        labels.append(torch.full((shots,), label))
    return torch.cat(found), torch.cat(labels)
