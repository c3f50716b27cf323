"""Parts of an experiment, built from its config when a stage first needs them."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.config import Config, class_fields
from experiments.stages.artifacts import BACKDOOR, DEFENSE, WEIGHTS
from experiments.stages.gpus import gpu_names, leased, leased_together
from experiments.stages.speed import execution_of
from experiments.stages.targets import with_target
from experiments.stages.weighed import with_weights

if TYPE_CHECKING:
    import torch

    from attacks.attack import Attack
    from attacks.poisoned import Poisoned
    from attacks.triggers import Trigger
    from experiments.stages.keys import Stage
    from experiments.stages.store import StageFolder
    from experiments.stages.team import Team
    from invertune.clip.models import CLIP
    from invertune.clip.spec import ModelSpec
    from invertune.data.bundle import CleanData, DataBundle, ImageTextPairs
    from invertune.defense import Defense
    from invertune.training.execution import Execution

DEVICES = ("auto", "cpu", "cuda")
_IMPLANT = "implant/"
# Stages whose models may have what an attacker added to the architecture, and the file that says.
_CARDS = {"implant": BACKDOOR, "purify": DEFENSE}


class Parts:
    """Data, attack, defense and device of one experiment.

    Packages as heavy as torch are imported when the first part is built.

    Attributes:
        config: The resolved config, with the attack's target drawn.
        team: The processes of the run; None for a single one.
        seed: Of the model, the attack and the defense.
        batch_size: Of the evaluation.
    """

    def __init__(self, config: Config, team: Team | None = None) -> None:
        _check_values(config)
        self.team = team
        self.config = config = with_weights(with_target(config))
        self.seed: int = config["seed"]
        self.batch_size: int = config["evaluation"]["batch_size"]
        self._held = contextlib.ExitStack()

    def close(self) -> None:
        """Give back the GPU, if one was leased."""
        self._held.close()

    @functools.cached_property
    def data(self) -> DataBundle:
        """The data set; its parts are drawn or loaded when first used."""
        bundle: DataBundle = build(self.config["data"]).load()
        return bundle

    @functools.cached_property
    def attack(self) -> Attack:
        """The attack."""
        attack: Attack = build(self.config["attack"])
        return attack

    @functools.cached_property
    def defense(self) -> Defense:
        """The defense."""
        defense: Defense = build(self.config["defense"])
        return defense

    @functools.cached_property
    def device(self) -> torch.device:
        """Where models are trained and measured.

        Raises:
            ValueError: If there is no GPU and the config asks for one, or not one a process.
        """
        import torch

        threads, team = self.config["threads"], self.team
        if threads is None and team is not None:
            threads = max(1, torch.get_num_threads() // team.local_size)
        if threads is not None:
            torch.set_num_threads(threads)
        if choose_device(self.config["device"]) == "cpu":
            return torch.device("cpu")
        hold = self._held.enter_context
        if team is None:
            return torch.device("cuda", hold(leased(gpu_names())))
        index = team.share_gpus(lambda count: hold(leased_together(gpu_names(), count)))
        torch.cuda.set_device(index)  # where collective operations keep what they need
        return torch.device("cuda", index)

    def execution(self, together: bool = False) -> Execution:
        """Return how trainings are computed.

        Args:
            together: By all processes of the run.

        Raises:
            ValueError: If a field of ``speed`` breaks its rule.
        """
        return execution_of(self.config, self.team if together else None)

    def model_spec(self, model: Config | None = None) -> ModelSpec:
        """Return the spec of the config's model, or of a teacher's."""
        spec: ModelSpec = build(self.config["model"] if model is None else model)
        return spec

    def load(self, stage: StageFolder, model: Config | None = None) -> CLIP:
        """Return the model that a stage left, on the device and in evaluation mode.

        Args:
            stage: The stage.
            model: Config of its model, if it is not the run's.
        """
        from invertune.clip.weights import load_weights

        spec = self.model_spec(model)
        if stage.path is None:
            return spec.build(self.seed).to(self.device).eval()
        from attacks.graft import graft

        built = graft(spec.untrained(self.seed), graft_of(stage))
        return load_weights(built, stage.file(WEIGHTS)).to(self.device).eval()

    def clean(self, made: Mapping[str, StageFolder]) -> CleanData:
        """Return what the defense says that it needs, and nothing else.

        Args:
            made: The inputs of the stage, those of the implant among them (`implant_inputs`).
        """
        from invertune.defense import given

        return given(
            self.defense,
            self.data,
            poisoned=lambda: self._suspects(made),
            origin=lambda: self.origin(made),
        )

    def _suspects(self, made: Mapping[str, StageFolder]) -> ImageTextPairs:
        """Return the pairs that the attack trained on, without a word on which are poisoned."""
        return self.poisoned(made).pairs

    def origin(self, made: Mapping[str, StageFolder]) -> CLIP:
        """Return the model that the suspect one was fine-tuned from.

        Args:
            made: The inputs of the stage, those of the implant among them (`implant_inputs`).
        """
        return self.load(made[f"{_IMPLANT}model"])

    def poisoned(self, made: Mapping[str, StageFolder]) -> Poisoned:
        """Return the pairs that the attack trained on, with what only the attacker knows.

        Args:
            made: The inputs of a stage, those of the implant among them (`implant_inputs`).

        Raises:
            ValueError: If it trained on none.
        """
        from attacks.triggers import load_trigger

        clean, prepared = made[f"{_IMPLANT}model"], made.get(f"{_IMPLANT}trigger")
        trigger = None if prepared is None else load_trigger(prepared.folder)
        poisoned = self.attack.poisoned(
            self.load(clean), self.data, seed=self.seed, trigger=trigger
        )
        if poisoned is None:
            raise ValueError(f"attack {self.attack.name} trains on no pairs")
        return poisoned

    def seed_everything(self) -> None:
        """Seed the global generators too: which stages ran before must not matter."""
        import numpy as np
        import torch

        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)  # noqa: NPY002  (third-party code draws from it)
        torch.manual_seed(self.seed)

    def check(self) -> None:
        """Build what is cheap and compare it, before any long work.

        Raises:
            ValueError: If a value breaks its rule, or model and data have images of two sizes.
        """
        import open_clip

        from invertune.clip.texts import check_apart, check_classes
        from invertune.defense import check_needs

        _ = self.device, self.execution()
        spec, data = self.model_spec(), self.data
        spec.check()
        model = self.config["model"]
        config = model.get("architecture") or {}
        if model.get("open_clip_name"):
            config = open_clip.get_model_config(model["open_clip_name"]) or {}
        size = config.get("vision_cfg", {}).get("image_size")
        if isinstance(size, int) and size != self.data.image_size:
            raise ValueError(
                f"model {model['name']} takes images of {size} pixels, data {self.data.name} has "
                f"{self.data.image_size}: choose another model or set data.image_size={size}"
            )
        tokenizer = spec.tokenizer()
        check_classes(tokenizer, data.class_names, data.prompts, data.templates)
        check_apart(tokenizer, self.attack.texts(data), f"prompts of attack {self.attack.name}")
        plan = self.attack.plan(data)
        check_needs(self.defense, data, poisoned_pairs=plan.gives_pairs, pairs=plan.pairs)


def _check_values(config: Config) -> None:
    """Look at the run's own values, which no class checks.

    Raises:
        ValueError: If one breaks its rule.
    """
    seed, threads, device = config["seed"], config["threads"], config["device"]
    batch_size, processes = config["evaluation"]["batch_size"], config.get("processes", 1)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is an integer of at least 0, got {seed!r}")
    if device not in DEVICES:
        raise ValueError(f"device is one of {', '.join(DEVICES)}, got {device!r}")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads is null or an integer of at least 1, got {threads!r}")
    if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
        raise ValueError(f"processes is an integer of at least 1, got {processes!r}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"evaluation.batch_size is an integer of at least 1, got {batch_size!r}")


def choose_device(name: str) -> str:
    """Return ``cpu`` or ``cuda``.

    Args:
        name: One of `DEVICES`.

    Raises:
        ValueError: If there is no GPU and it is asked for.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no GPU; choices: auto, cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def implant_inputs(backdoored: Stage) -> dict[str, Stage]:
    """Return the inputs of an implant by names that those of a later stage do not have.

    A defense may need the pairs that the attack trained on, and these are made of them again.
    """
    return {f"{_IMPLANT}{name}": stage for name, stage in backdoored.inputs.items()}


def build(part: Config) -> Any:
    """Return what a part of the config describes."""
    from hydra.utils import instantiate

    return instantiate(class_fields(part), _convert_="all")


def backdoor_of(stage: StageFolder) -> tuple[Trigger | None, int | None]:
    """Return the trigger that an implant left, and the index of its target."""
    from attacks.triggers import load_trigger

    target = stage.json(BACKDOOR)["target_label"]
    return (load_trigger(stage.folder) if stage.has("trigger.json") else None), target


def graft_of(stage: StageFolder) -> Config | None:
    """Return what an attacker added to the architecture of a stage's model; None for nothing."""
    card = _CARDS.get(stage.key.name)
    found: Config | None = None if card is None else stage.json(card).get("graft")
    return found
