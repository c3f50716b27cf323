"""The four stages of an experiment, and what each one depends on.

A stage's key holds its own part of the config and the keys of its inputs, nothing else: a sweep
over ten defenses pre-trains, attacks and evaluates the same model once. Models go from stage to
stage through files only, so that an interrupted run continues with exactly what it had.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.stages.gpus import gpu_names, leased
from experiments.stages.keys import StageKey
from experiments.stages.store import CHECKPOINT, StageFolder, StageStore

if TYPE_CHECKING:
    import torch

    from attacks.preflight import Finding
    from attacks.triggers import Trigger
    from invertune.clip.models import CLIP
    from invertune.data.bundle import DataBundle
    from invertune.evidence import Evidence
from experiments.stages.artifacts import PREDICTIONS, WEIGHTS, write_json

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
_FORMATS = {
    "pretrain": 2, "trigger": 1, "implant": 2, "search": 1, "purify": 2, "evaluate": 2,
    "inspect": 1,
}  # fmt: skip
# Parts of a defense that look for the backdoor: what they find is kept for all ways to repair.
_SEARCH = ("identify", "invert")
# Parts of an attack that make its trigger, kept for all ways to implant it, and whether they look
# at the clean model: a trigger that does not is made once for all models and seeds.
_PREPARES = {"optimize": True, "hide": False}
_NO_DEFENSE = "invertune.NoDefense"
_SAMPLES = 4


class Stages:
    """Runs what a resolved config asks for, and skips what is there already.

    Packages as heavy as torch are imported when the first stage has to be made: a run whose
    stages are all complete takes a second.

    Attributes:
        config: The resolved config, plain values only.
        store: Where the stages are.
        seed: Of the model, the attack and the defense.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.seed = config["seed"]
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed is an integer of at least 0, got {self.seed!r}")
        if config["device"] not in DEVICES:
            raise ValueError(f"device is one of {', '.join(DEVICES)}, got {config['device']!r}")
        threads = config["threads"]
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise ValueError(f"threads is null or an integer of at least 1, got {threads!r}")
        self.batch_size = config["evaluation"]["batch_size"]
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(
                f"evaluation.batch_size is an integer of at least 1, got {self.batch_size!r}"
            )
        self.store = StageStore(Path(config["runs_dir"]).expanduser())
        self._held = contextlib.ExitStack()

    def close(self) -> None:
        """Give back the GPU, if one was leased."""
        self._held.close()

    # Keys: all that decides what a stage makes.

    @staticmethod
    def _key(name: str, config: Any, inputs: Mapping[str, StageKey], seed: int) -> StageKey:
        hashes = {role: key.hash for role, key in inputs.items()}
        return StageKey(name, _FORMATS[name], config, hashes, seed)

    def pretrain_key(self, model: Mapping[str, Any] | None = None) -> StageKey:
        """Return the key of the config's model, or of a teacher's."""
        model = self.config["model"] if model is None else model
        teacher = model.get("teacher")
        own = {name: value for name, value in model.items() if name != "teacher"}
        inputs = {"teacher": self.pretrain_key(teacher)} if teacher else {}
        weights = {"model": own, "data": self.config["data"]}
        return self._key("pretrain", weights, inputs, self.seed)

    def trigger_key(self) -> StageKey | None:
        """Return the key of the trigger that the attack makes; None if it needs no making."""
        attack = self.config["attack"]
        part = next((name for name in _PREPARES if name in attack), None)
        if part is None:
            return None
        if not _PREPARES[part]:
            config = {part: attack[part], "data": self.config["data"]}
            return self._key("trigger", config, {}, 0)
        config = {name: attack[name] for name in (part, "target_label")}
        return self._key("trigger", config, {"model": self.pretrain_key()}, self.seed)

    def implant_key(self) -> StageKey:
        """Return the key of the backdoored model."""
        attack, inputs = self.config["attack"], {"model": self.pretrain_key()}
        trigger = self.trigger_key()
        if trigger is not None:
            inputs["trigger"] = trigger
            attack = {name: value for name, value in attack.items() if name not in _PREPARES}
        return self._key("implant", attack, inputs, self.seed)

    def purify_key(self) -> StageKey:
        """Return the key of the purified model."""
        defense, inputs = dict(self.config["defense"]), {"model": self.implant_key()}
        search = self.search_key()
        if search is not None:
            inputs["search"] = search
            defense = {name: value for name, value in defense.items() if name not in _SEARCH}
        return self._key("purify", defense, inputs, self.seed)

    def search_key(self) -> StageKey | None:
        """Return the key of what the defense found; None if it does not look for a backdoor."""
        defense = self.config["defense"]
        if not all(part in defense for part in _SEARCH):
            return None
        # What decides how many clean images there must be, and what they are told to be.
        config = {name: defense[name] for name in _SEARCH}
        return self._key("search", config, {"model": self.implant_key()}, self.seed)

    def evaluate_key(self, weights: StageKey) -> StageKey:
        """Return the key of one model's score; the batch size does not change it."""
        own = {k: v for k, v in self.config["evaluation"].items() if k != "batch_size"}
        inputs = {"model": weights, "backdoor": self.implant_key()}
        return self._key("evaluate", own, inputs, self.seed)

    def inspect_key(self) -> StageKey:
        """Return the key of the comparison of the inverted trigger with the true one."""
        own = {k: v for k, v in self.config["evaluation"].items() if k != "batch_size"}
        inputs = {"evidence": self.purify_key(), "backdoor": self.implant_key()}
        return self._key("inspect", own, inputs, self.seed)

    def roles(self) -> dict[str, StageKey]:
        """Return the keys of all stages that leave a folder, by their roles in the run."""
        clean, backdoored, purified = self.pretrain_key(), self.implant_key(), self.purify_key()
        search, trigger = self.search_key(), self.trigger_key()
        return {
            **({"pretrain": clean} if self._pretrains(self.config["model"]) else {}),
            **({} if trigger is None else {"implant/trigger": trigger}),
            "implant": backdoored,
            **({} if search is None else {"purify/search": search}),
            "purify": purified,
            "evaluate/clean": self.evaluate_key(clean),
            "evaluate/backdoored": self.evaluate_key(backdoored),
            "evaluate/purified": self.evaluate_key(purified if self._repairs else backdoored),
            "inspect": self.inspect_key(),
        }

    def make(self) -> dict[str, StageFolder]:
        """Make what is missing, and return all stages by their roles."""
        clean = self.pretrain()
        trigger = self.trigger(clean)
        backdoored = self.implant(clean, trigger)
        found = self.search(backdoored)
        purified = self.purify(backdoored, found)
        return {
            "pretrain": clean,
            **({} if trigger is None else {"implant/trigger": trigger}),
            "implant": backdoored,
            **({} if found is None else {"purify/search": found}),
            "purify": purified,
            "evaluate/clean": self.evaluate(clean, backdoored),
            "evaluate/backdoored": self.evaluate(backdoored, backdoored),
            "evaluate/purified": self.evaluate(
                purified if self._repairs else backdoored, backdoored
            ),
            "inspect": self.inspect(purified, backdoored),
        }

    # Parts of the experiment, built when first used.

    @functools.cached_property
    def data(self) -> DataBundle:
        """The data set; its parts are drawn or loaded when first used."""
        bundle: DataBundle = _instantiate(self.config["data"]).load()
        return bundle

    @functools.cached_property
    def attack(self) -> Any:
        """The attack."""
        return _instantiate(self.config["attack"])

    @functools.cached_property
    def defense(self) -> Any:
        """The defense."""
        return _instantiate(self.config["defense"])

    @functools.cached_property
    def device(self) -> torch.device:
        """Where models are trained and measured.

        Raises:
            ValueError: If there is no GPU and the config asks for one.
        """
        import torch

        if self.config["threads"] is not None:
            torch.set_num_threads(self.config["threads"])
        name = self.config["device"]
        if name == "cuda" and not torch.cuda.is_available():
            raise ValueError("device=cuda, but torch sees no GPU; choices: auto, cpu")
        if name == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self._held.enter_context(leased(gpu_names())))

    @property
    def _repairs(self) -> bool:
        """Whether the defense changes the model; else its score is the backdoored model's."""
        return bool(self.config["defense"].get("_target_") != _NO_DEFENSE)

    @staticmethod
    def _pretrains(model: Mapping[str, Any]) -> bool:
        return model.get("pretrain") is not None

    def check(self) -> None:
        """Find what is wrong with the config before the long work; free if all stages are there.

        Raises:
            ValueError: If a value breaks its rule.
            OSError: If the folder of runs cannot be written.
        """
        if all(self.store.has(key) for key in self.roles().values()):
            return
        _ = self.device, self.defense, _instantiate(self.config["model"])
        self._check_image_size()
        implants = not self.store.has(self.implant_key())
        if implants and hasattr(self.attack, "check"):
            self.attack.check(self.data)  # draws the pairs, which a sweep of defenses does not need
        self.store.check_writable()
        if implants:
            self._preflight()

    def _check_image_size(self) -> None:
        import open_clip

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

    # The stages.

    def pretrain(self, model: Mapping[str, Any] | None = None) -> StageFolder:
        """Return the clean model: pre-trained here, or only named where open_clip has weights."""
        model = self.config["model"] if model is None else model
        key = self.pretrain_key(model)
        if not self._pretrains(model):
            return StageFolder(key)
        found = self.store.find(key)
        if found is not None:
            return found
        # Before the clock of this stage starts.
        teacher = self.pretrain(model["teacher"]) if model.get("teacher") else None

        def produce(folder: Path) -> None:
            from invertune.clip.weights import save_weights
            from invertune.training.train import train

            self._seed_everything()
            self.data.check_disjoint()  # what it draws is used in later stages
            spec = _instantiate(model)
            student = spec.build(self.seed).to(self.device)
            losses = train(
                student,
                self.data.pairs,
                spec.pretrain,
                seed=self.seed,
                stage=f"pretrain {spec.name}",
                teacher=self.load(teacher, model["teacher"]) if teacher else None,
                checkpoint=folder / CHECKPOINT,
            )
            save_weights(student, folder / WEIGHTS)
            write_json(folder / "losses.json", losses)

        return self.store.obtain(key, produce)

    def trigger(self, clean: StageFolder) -> StageFolder | None:
        """Return the trigger that the attack makes before it implants; None if it has one."""
        key = self.trigger_key()
        if key is None:
            return None

        def produce(folder: Path) -> None:
            from attacks.triggers import save_trigger

            self._seed_everything()
            self.data.check_disjoint()
            if "model" in key.inputs:
                made = self.attack.prepare(self.load(clean), self.data, seed=self.seed)
            else:
                made = self.attack.prepare(self.data)
            save_trigger(made, folder)

        return self.store.obtain(key, produce)

    def implant(self, clean: StageFolder, trigger: StageFolder | None) -> StageFolder:
        """Return the backdoored model with its trigger, target label and poisoned pairs.

        Args:
            clean: The clean model.
            trigger: What `trigger` returned.
        """

        def produce(folder: Path) -> None:
            from attacks.preflight import known_trigger, survival
            from attacks.triggers import load_trigger, save_trigger
            from invertune.clip.weights import save_weights

            prepared = None if trigger is None else load_trigger(trigger.folder)
            if prepared is not None:
                self._say(survival(prepared, self.data), part=", the trigger made for it")
            self._seed_everything()
            backdoor = self.attack.implant(
                self.load(clean),
                self.data,
                seed=self.seed,
                checkpoint=folder / CHECKPOINT,
                trigger=prepared,
            )
            learned = known_trigger(self.attack, self.data) is None and prepared is None
            if learned and backdoor.trigger is not None:
                said = survival(backdoor.trigger, self.data)
                self._say(said, part=", the trigger learned with it")
            save_weights(backdoor.model, folder / WEIGHTS)
            names, target = self.data.class_names, backdoor.target_label
            card = {
                "name": self.attack.name,
                "attack": self.config["attack"],
                "seed": self.seed,
                "target_label": target,
                "target_name": None if target is None else names[target],
                "pairs": backdoor.pairs,
                "poisoned": backdoor.poisoned,
                "model": _describe(backdoor.model),
                "data": {"name": self.data.name, "classes": len(names)},
                "graft": backdoor.graft,
            }
            write_json(folder / "backdoor.json", card)
            write_json(folder / "losses.json", backdoor.losses)
            if backdoor.trigger is not None:
                save_trigger(backdoor.trigger, folder)

        return self.store.obtain(self.implant_key(), produce)

    def _preflight(self) -> None:
        """Say in one block what is to be expected of the implant.

        Raises:
            ValueError: If parts of the data share a sample.
        """
        from attacks.preflight import known_trigger, preflight, survival

        trigger = known_trigger(self.attack, self.data)
        found = [] if trigger is None else survival(trigger, self.data)
        self._say([*preflight(self.attack, self.data), *found])

    def _say(self, found: list[Finding], part: str = "") -> None:
        from attacks.preflight import block

        warns = any(finding.kind == "warning" for finding in found)
        log.log(logging.WARNING if warns else logging.INFO, block(self.attack.name + part, found))

    def search(self, backdoored: StageFolder) -> StageFolder | None:
        """Return what the defense found, or None if it does not look for a backdoor."""
        key = self.search_key()
        if key is None:
            return None

        def produce(folder: Path) -> None:
            self._seed_everything()
            found = self.defense.search(self.load(backdoored), self.data.clean, seed=self.seed)
            found.save(folder)

        return self.store.obtain(key, produce)

    def purify(self, backdoored: StageFolder, found: StageFolder | None) -> StageFolder:
        """Return the repaired model and what the defense found, from model and clean data alone.

        Args:
            backdoored: The suspect model.
            found: What `search` returned.
        """

        def produce(folder: Path) -> None:
            from invertune.clip.weights import save_weights
            from invertune.evidence import Evidence

            self._seed_everything()
            model, clean = self.load(backdoored), self.data.clean
            if found is None:
                purified = self.defense.purify(model, clean, seed=self.seed)
            else:
                evidence = Evidence.load(found.folder)
                purified = self.defense.repair(model, clean, evidence, seed=self.seed)
            save_weights(purified.model, folder / WEIGHTS)
            purified.evidence.save(folder)
            card = {
                "name": self.defense.name,
                "clean_samples": self.defense.clean_samples,
                "knows": self.defense.knows,
                "identification": _named(purified.evidence, self.data.class_names),
                "curves": purified.evidence.curves,
                "seconds": purified.evidence.seconds,
                "graft": _graft(backdoored),
            }
            write_json(folder / "defense.json", card)

        return self.store.obtain(self.purify_key(), produce)

    def evaluate(self, weights: StageFolder, backdoored: StageFolder) -> StageFolder:
        """Return the score of one model against the backdoor."""

        def produce(folder: Path) -> None:
            import numpy as np

            from evaluation.evaluate import evaluate

            self._seed_everything()
            trigger, target = _backdoor(backdoored)
            found = evaluate(
                self.load(weights), self.data, trigger, target, batch_size=self.batch_size
            )
            write_json(folder / "score.json", found.scores)
            classes = {k: v.numpy().astype("int32") for k, v in vars(found.predictions).items()}
            np.savez_compressed(folder / PREDICTIONS, **classes)

        return self.store.obtain(self.evaluate_key(weights.key), produce)

    def inspect(self, purified: StageFolder, backdoored: StageFolder) -> StageFolder:
        """Return how the inverted trigger compares with the true one, and pictures of both."""

        def produce(folder: Path) -> None:
            from evaluation.inversion import evaluate_inversion
            from invertune.evidence import Evidence

            self._seed_everything()
            trigger, target = _backdoor(backdoored)
            inverted = Evidence.load(purified.folder).triggers
            found = None
            if inverted and trigger is not None and target is not None:
                found = evaluate_inversion(
                    self.load(backdoored), self.data, inverted, trigger, target
                )
            write_json(folder / "inversion.json", found)
            stamps = {"clean": None, **({"true": trigger} if trigger is not None else {})}
            stamps |= {f"inverted{i}": stamp for i, stamp in enumerate(inverted)}
            _draw(folder / "pictures", self.data.zero_shot.images[:_SAMPLES], stamps)

        return self.store.obtain(self.inspect_key(), produce)

    def load(self, stage: StageFolder, model: Mapping[str, Any] | None = None) -> CLIP:
        """Return the model that a stage left, on the device and in evaluation mode."""
        from invertune.clip.weights import load_weights

        spec = _instantiate(self.config["model"] if model is None else model)
        built: CLIP = spec.build(self.seed)
        if stage.path is not None:
            from attacks.graft import graft

            built = load_weights(graft(built, _graft(stage)), stage.file(WEIGHTS))
        return built.to(self.device).eval()

    def _seed_everything(self) -> None:
        """Seed the global generators too: which stages ran before must not matter."""
        import numpy as np
        import torch

        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)  # noqa: NPY002  (third-party code draws from it)
        torch.manual_seed(self.seed)


def _instantiate(config: Mapping[str, Any]) -> Any:
    from hydra.utils import instantiate

    return instantiate(dict(config), _convert_="all")


def _backdoor(folder: StageFolder) -> tuple[Trigger | None, int | None]:
    from attacks.triggers import load_trigger

    target = folder.json("backdoor.json")["target_label"]
    return (load_trigger(folder.folder) if folder.has("trigger.json") else None), target


# The files that say what an attacker added to a model's architecture.
_CARDS = {"implant": "backdoor.json", "purify": "defense.json"}


def _graft(stage: StageFolder) -> Mapping[str, Any] | None:
    card = _CARDS.get(stage.key.name)
    found: Mapping[str, Any] | None = None if card is None else stage.json(card).get("graft")
    return found


def _describe(model: CLIP) -> dict[str, Any]:
    return {
        "name": model.name, "parameters": model.parameter_count, "image_size": model.image_size,
    }  # fmt: skip


def _named(evidence: Evidence, names: tuple[str, ...]) -> dict[str, Any] | None:
    found = evidence.identification
    if found is None:
        return None
    return {
        "target_label": names[found.target_label],
        "gain": found.gain,
        "runner_up": names[found.runner_up],
        "runner_up_gain": found.runner_up_gain,
    }


def _draw(folder: Path, images: torch.Tensor, stamps: Mapping[str, Any]) -> None:
    from PIL import Image

    from invertune.data.bundle import to_float

    folder.mkdir()
    for name, stamp in stamps.items():
        stamped = images if stamp is None else stamp(to_float(images)).mul(255).round()
        for i, image in enumerate(stamped.byte().permute(0, 2, 3, 1).cpu().numpy()):
            Image.fromarray(image).save(folder / f"{name}-{i}.png")
