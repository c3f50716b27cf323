"""What runs will take, before any of them begins: stages, passes, FLOP, hours, disk, memory.

The hours on a GPU are FLOP / (peak * share): the peak of its tensor cores for 16-bit numbers, and
the share of it that such models reach in mixed precision, which is an assumption and stands in the
plan. The hours on this machine are measured on a handful of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from experiments.config import SHIPPED, Config, plain_config
from experiments.names import runs_folder
from experiments.stages.data import reads_files
from experiments.stages.keys import Stage
from experiments.stages.parts import build
from experiments.stages.stages import list_stages
from experiments.stages.store import StageStore
from experiments.stages.targets import with_target
from experiments.stages.weighed import with_weights
from invertune.contents import remembered

if TYPE_CHECKING:
    from invertune.clip.cost import Cost
    from invertune.clip.spec import ModelSpec
    from invertune.work import Work

# TFLOP/s of dense 16-bit matrix products as their makers state them, and GB of memory.
GPUS = {
    "V100": (125, 32), "RTX 3090": (71, 24), "RTX 4090": (165, 24), "L40S": (362, 48),
    "A100": (312, 80), "H100": (989, 80),
}  # fmt: skip
SHARES = {"resnet": 0.1, "vit": 0.3}
_WEIGHTS, _TRAINING = 4, 16  # bytes of a weight in a file; with gradient and AdamW's two means
_PARTS = ("pairs", "clean", "zero_shot", "retrieval")
_CAPTIONS = 5


@dataclass
class Row:
    """The stages of one kind and one model.

    Attributes:
        model, stage: What they are.
        count, there: How many, and how many of them are made already.
        work: What goes through the model in those that are not; None where a method does not say.
        flop: Of that.
        seconds: Of that on this machine; None if it was not measured.
        unknown: How many of them do not say how much they do.
    """

    model: str
    stage: str
    count: int = 0
    there: int = 0
    work: Work | None = None
    flop: float = 0.0
    seconds: float | None = None
    unknown: int = 0


@dataclass
class Plan:
    """What a grid will take.

    Attributes:
        runs: How many.
        rows: By model and stage.
        families: Model -> ``resnet`` or ``vit``.
        disk: What takes room -> bytes.
        memory: Model -> bytes that a training with so many pairs a batch takes, and that number.
        missing: Parts of the data whose files are not there.
    """

    runs: int
    rows: list[Row]
    families: dict[str, str] = field(default_factory=dict)
    disk: dict[str, float] = field(default_factory=dict)
    memory: dict[str, tuple[float, int]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def hours(self, gpu: str) -> float:
        """Return the hours that all rows take on one such GPU."""
        return sum(self.hours_of(row, gpu) for row in self.rows)

    def hours_of(self, row: Row, gpu: str) -> float:
        """Return the hours that one of the rows takes on one such GPU."""
        peak = GPUS[gpu][0] * 1e12
        return row.flop / (peak * SHARES[self.families[row.model]]) / 3600

    @property
    def seconds(self) -> float | None:
        """Seconds on this machine; None if they were not measured."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(known) if known else None


def expand(overrides: Sequence[str]) -> list[Config]:
    """Return the configs of all runs of a command line, presets and lists of values included.

    Raises:
        ValueError: If there is a mistake in a file.
        HydraException: If an override is wrong.
    """
    from hydra import compose, initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from experiments.composing import as_texts, register
    from experiments.config import CONF
    from experiments.sweeps.sweeper import register as register_sweeper

    register_sweeper()
    register()
    words = as_texts(list(overrides))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        single = [word for word in words if _is_single(word)]
        hydra = compose("config", single, return_hydra_config=True).hydra
        given = {word.partition("=")[0] for word in words}
        axes = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()
                if key not in given]  # fmt: skip
        parsed = OverridesParser.create().parse_overrides([*axes, *words])
        ((*combinations,),) = BasicSweeper.split_arguments(parsed, None)
        return [with_weights(plain_config(compose("config", list(one), return_hydra_config=True)))
                for one in combinations]  # fmt: skip


def _is_single(word: str) -> bool:
    """Return whether an override has one value, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([word])
    return not override.is_sweep_override()


@remembered()
def make_plan(configs: Sequence[Config], measure: bool = False) -> Plan:
    """Return the plan of runs; stages that they share are counted once.

    Args:
        configs: Resolved ones.
        measure: Whether each model is timed on this machine.

    Raises:
        ValueError: If a value breaks its rule.
        OSError: If something cannot be read.
    """
    from invertune.work import Work

    rows: dict[tuple[str, str], Row] = {}
    seen: set[str] = set()
    models = _Models(measure)
    plan = Plan(len(configs), [])
    for config in map(with_target, configs):
        store, world = StageStore(runs_folder(config["runs_dir"])), _World(config)
        plan.missing = list(dict.fromkeys([*plan.missing, *world.missing]))
        spec: ModelSpec = build(config["model"])
        own = models.cost(spec, world.image_size)
        plan.families[spec.name] = models.family(spec)
        batch = world.batch_size
        plan.memory[spec.name] = (_TRAINING * own.parameters + batch * own.saved / 2, batch)
        works = world.works()
        for stage in list_stages(config):
            if stage.produce is None or stage.key.hash in seen:
                continue
            seen.add(stage.key.hash)
            row = rows.setdefault((spec.name, _kind(stage)), Row(spec.name, _kind(stage)))
            row.count += 1
            if store.has(stage.key):
                row.there += 1
                continue
            work = works.get(_kind(stage))
            if isinstance(stage.key.config, Mapping) and SHIPPED in stage.key.config:
                work = Work()  # it came with the package
            _add(row, work, own, models.seconds(spec, world.image_size))
            if _kind(stage) in ("pretrain", "implant", "purify"):
                _grow(plan.disk, f"weights of {spec.name}", _WEIGHTS * own.parameters)
        for what, size in world.pixels().items():
            plan.disk[what] = size
    plan.rows = list(rows.values())
    return plan


def _grow(sizes: dict[str, float], what: str, more: float) -> None:
    sizes[what] = sizes.get(what, 0.0) + more


def _kind(stage: Stage) -> str:
    return str(stage.key.name)


def _add(row: Row, work: Work | None, own: Cost, timed: Cost | None) -> None:
    if work is None:
        row.unknown += 1
        return
    row.work = work if row.work is None else row.work + work
    row.flop += own.flop(work)
    if timed is not None:
        row.seconds = (row.seconds or 0.0) + timed.flop(work)


class _Models:
    """Costs of models, each found out once."""

    def __init__(self, measure: bool) -> None:
        self.measure = measure
        self._costs: dict[tuple[str, int], Cost] = {}
        self._timed: dict[tuple[str, int], Cost] = {}

    def cost(self, spec: ModelSpec, size: int) -> Cost:
        from invertune.clip.cost import cost

        if (spec.name, size) not in self._costs:
            self._costs[spec.name, size] = cost(spec, size)
        return self._costs[spec.name, size]

    def seconds(self, spec: ModelSpec, size: int) -> Cost | None:
        from invertune.clip.cost import measured

        if not self.measure:
            return None
        if (spec.name, size) not in self._timed:
            self._timed[spec.name, size] = measured(spec, size)
        return self._timed[spec.name, size]

    def family(self, spec: ModelSpec) -> str:
        import open_clip

        config: Any = spec.architecture
        if spec.open_clip_name is not None:
            config = open_clip.get_model_config(spec.open_clip_name) or {}
        return "resnet" if isinstance(config["vision_cfg"]["layers"], list | tuple) else "vit"


def _told(method: object, size: int, templates: int) -> Mapping[str, Work]:
    """Return the work that a defense or a detector says of itself; nothing where it does not.

    Args:
        method: The defense or the detector; None where there is none.
        size: What its work depends on: classes for a defense, pairs for a detector.
        templates: How many texts a class name becomes.
    """
    work = getattr(method, "work", None)
    found: Mapping[str, Work] = {} if work is None else work(size)
    return {stage: own.templated(templates) for stage, own in found.items()}


class _World:
    """What a config says of its data, without a look at any picture."""

    def __init__(self, config: Config) -> None:
        self.config, self.data = config, config["data"]
        self.missing: list[str] = []
        self.image_size: int = self.data["image_size"]
        self.sizes = dict(self._sizes())
        if reads_files(self.data):
            self.bundle = build(self.data).outline()
        else:
            self.bundle = build(self.data).load()
        self.attack, self.defense = build(config["attack"]), build(config["defense"])
        asked = config.get("detector")
        self.detector = None if asked is None else build(asked)

    @property
    def batch_size(self) -> int:
        return int(self.attack.plan(self.bundle).batch_size or 128)

    def works(self) -> dict[str, Work | None]:
        """Return the work of each kind of stage; None where a method does not say."""
        from invertune.work import Work

        pairs = int(self.attack.plan(self.bundle).pairs or self.sizes["pairs"])
        classes, templates = len(self.bundle.class_names), len(self.bundle.templates)
        prompts = Work(prompts=classes).templated(templates)
        attack: Mapping[str, Work] = self.attack.work(self.bundle)
        defense = _told(self.defense, classes, templates)
        images = self.sizes["zero_shot"] + self.sizes["retrieval"]
        found: dict[str, Work | None] = {
            "pretrain": self._pretraining(),
            "trigger": attack.get("trigger"),
            "implant": attack.get("implant"),
            "search": defense.get("search"),
            "purify": defense.get("purify"),
            "detect": _told(self.detector, pairs, templates).get("detect"),
            # Clean and triggered.
            "evaluate": Work(forward=2 * images, texts=_CAPTIONS * self.sizes["retrieval"])
            + prompts,
            "inspect": Work(forward=1000),
        }
        if self.defense.name == "none":
            found |= {"search": Work(), "purify": Work()}
        return found

    def _pretraining(self) -> Work | None:
        from invertune.work import Work

        recipe = build(self.config["model"]).pretrain
        if recipe is None:
            return None
        work = Work.of_pairs(recipe.steps(self.sizes["pairs"]), recipe.batch_size)
        return replace(work, texts_trained=0) if recipe.freeze_text else work

    def pixels(self) -> dict[str, float]:
        """Return the bytes of the pixels that are kept of each part."""
        if not reads_files(self.data) or not self.data.get("keep", True):
            return {}
        each = 3 * self.image_size**2
        return {f"pixels of {part}": float(each * size) for part, size in self.sizes.items()}

    def _sizes(self) -> Iterator[tuple[str, int]]:
        if not reads_files(self.data):
            yield from self.data["sizes"].items()
            return
        from invertune.data.layouts.shards import is_there

        for role in _PARTS:
            part = self.data[role]
            there = is_there(part["path"])
            if not there:
                self.missing.append(f"data.{role} ({part['path']})")
            count = part.get("count") or part.get("expected")
            if count is None and not there:
                raise ValueError(
                    f"data.{role}: there is no {part['path']}, and nothing says how many samples "
                    f"it will have: set data.{role}.expected"
                )
            yield role, int(count) if count is not None else build(self.data).count(role)
