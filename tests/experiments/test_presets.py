"""Every preset of ``conf/experiment`` composes, and every ablation differs in what it says."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.composing import register
from experiments.config import experiment_id, plain_config, result_id
from experiments.stages.parts import build
from experiments.stages.stages import list_stages
from invertune.invertune import InverTune
from invertune.perturb.raw import RawPerturbation

CONF = Path(__file__).parents[2] / "conf"
PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
ABLATIONS = sorted(path.stem for path in (CONF / "defense" / "ablation").glob("*.yaml"))
EXPERIMENTS = ("A1", "A2", "T1", "T2", "T3", "T4", "T5", "F1", "F2", "F3", "F4", "C1", "C2",
               "D1", "D2")  # fmt: skip
# Studies of step 3 alone, so that steps 1 and 2 run once.
TUNING = ("f4_sensitivity", "f4_clusters_layers", "f4_samples", "f4_steps")
MOST = 16  # jobs that are composed of a preset; of more, each value of each axis
DEFAULT_CELL = ("attack=badnet", "defense=invertune", "seed=0")

Job = tuple[str, ...]


def _compose(*overrides: str, mode: RunMode = RunMode.RUN) -> DictConfig:
    register()  # which reads a file once
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return hydra.compose_config("config", list(overrides), mode, from_shell=False,
                                    with_log_configuration=False)  # fmt: skip


@functools.cache
def _resolved(job: Job) -> dict[str, Any]:
    cfg = _compose(*job)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != "experiment"}


@functools.cache
def _params(preset: str) -> dict[str, str]:
    return dict(_compose(f"experiment={preset}").hydra.sweeper.params)


def _jobs(preset: str, *words: str) -> list[Job]:
    """Return what the sweeper makes of a preset, with further words of the command line."""
    lines = [f"{key}={value}" for key, value in _params(preset).items()]
    parsed = OverridesParser.create().parse_overrides([*lines, *words])
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return [tuple(job) for job in jobs]


def _some_jobs(preset: str) -> list[Job]:
    """Return all jobs of a preset; of a large one the first, all that differ from it in one axis,
    and the last, which differs from it in all.
    """
    jobs = _jobs(preset)
    if len(jobs) <= MOST:
        return jobs
    apart = [sum(a != b for a, b in zip(job, jobs[0], strict=True)) for job in jobs]
    near = [job for job, count in zip(jobs[:-1], apart, strict=False) if count <= 1]
    return [*near, jobs[-1]]


def _ids(preset: str, *words: str) -> list[str]:
    return [result_id(_resolved(job)) for job in _jobs(preset, *words)]


def _implants(preset: str) -> set[str]:
    """Return the keys of the models that the runs of a preset attack."""
    jobs = _jobs(preset, "seed=0", "attack=badnet,badclip")
    stages = [stage for job in jobs for stage in list_stages(_resolved(job))]
    return {stage.key.hash for stage in stages if stage.role == "implant"}


def test_every_experiment_of_the_paper_has_a_preset() -> None:
    ids = {experiment_id(_compose(f"experiment={preset}").experiment) for preset in PRESETS}
    assert ids == set(EXPERIMENTS)


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes(preset: str, mode: RunMode) -> None:
    cfg = _compose(f"experiment={preset}", "runs_dir=elsewhere", mode=mode)
    assert experiment_id(cfg.experiment) == preset.partition("_")[0].upper()
    assert cfg.hydra.mode == RunMode.MULTIRUN
    assert cfg.hydra.sweeper.params
    assert cfg.hydra.sweep.dir == "elsewhere"
    assert cfg.hydra.job_logging.root.level == "WARNING"  # our logging is still there
    single = _compose(f"experiment={preset}", "hydra.mode=RUN", mode=mode)
    assert single.hydra.mode == RunMode.RUN


@pytest.mark.parametrize("preset", PRESETS)
def test_every_job_is_a_run_of_its_own(preset: str) -> None:
    jobs = _some_jobs(preset)
    ids = [result_id(_resolved(job)) for job in jobs]
    assert len(ids) == len(set(ids)) > 1
    for job in jobs:
        config = _resolved(job)
        target = config["attack"].get("target_label")
        assert target is None or target in config["data"]["classes"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_its_own_axes_alone(preset: str) -> None:
    first = _jobs(preset)[0]
    assert _resolved((f"experiment={preset}", *first)) == _resolved(first)


@pytest.mark.parametrize("preset", PRESETS)
def test_swept_numbers_are_of_the_defaults_type(preset: str) -> None:
    """Else 10 and 10.0 would be two runs."""
    keys = [key for key in _params(preset) if "." in key]
    for job in _some_jobs(preset):
        for key in keys:
            unswept = tuple(word for word in job if not word.startswith(tuple(keys)))
            value, default = (_at(_resolved(words), key) for words in (job, unswept))
            # A target that is named stands in place of one that is drawn.
            assert type(value) is type(default) or key == "attack.target_label"


def _at(config: dict[str, Any], key: str) -> Any:
    return functools.reduce(lambda tree, part: tree[part], key.split("."), config)


def test_presets_share_runs() -> None:
    classification = set(_ids("t1_classification"))
    assert set(_ids("t2_retrieval")) == classification
    assert set(_ids("f2_inversion")) <= classification
    found = [_implants(preset) for preset in ("t1_classification", "t1_defenses", "t1_training")]
    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]
    assert set(_ids("f1_identification", "defense=invertune")) <= classification
    assert set(_ids("f3_layers")) <= set(_ids("t5_architectures"))
    default = result_id(_resolved(DEFAULT_CELL))
    attacks = set(_ids("a1_attacks"))
    assert len(attacks & classification) == 18  # the paper's six, with no defense
    assert len(attacks & set(_ids("a2_poison_budget"))) == 9  # three attacks at the default rate
    assert result_id(_resolved(("defense=ablation/activation",))) in _ids("f4_clusters_layers")
    # Of other defenses, of named targets.
    elsewhere = (
        "f4_clusters_layers",
        "f4_loss_weights",
        "t1_defenses",
        "t1_training",
        "t4_targets",
    )
    others = [preset for preset in PRESETS if preset[0] not in "acd" and preset not in elsewhere]
    assert all(default in _ids(preset) for preset in others)


@pytest.mark.parametrize(
    ("preset", "searches"), [*((name, 1) for name in TUNING), ("f4_loss_weights", 16)]
)
def test_studies_of_the_tuning_share_what_was_found(preset: str, searches: int) -> None:
    stages = [stage for job in _jobs(preset) for stage in list_stages(_resolved(job))]
    found = {stage.key.hash for stage in stages if stage.role == "purify/search"}
    assert len(found) == searches


def test_the_default_goes_on_from_the_verdict() -> None:
    whole, verdict = (_variant(name) for name in ("invertune", "invertune_verdict"))
    changed = dict(_differences(whole["defense"], verdict["defense"]))
    assert set(changed) == {"name", "tune", "rounds"}
    found = [
        {stage.key.hash for stage in list_stages(config) if stage.role == "purify/search"}
        for config in (whole, verdict)
    ]
    assert found[0] == found[1] != set()


def test_no_two_defenses_have_one_name() -> None:
    folder = CONF / "defense"
    names: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        own = _variant(name)["defense"]
        if "name" in own:  # else a part of others
            names.setdefault(own["name"], []).append(name)
    assert {name: of for name, of in names.items() if len(of) > 1} == {}
    assert len(names) > 40


def test_random_probes_name_candidates_by_what_verifies_them() -> None:
    defense = _variant("ablation/probes")["defense"]
    assert defense["identify"]["probes"] == defense["verify"]["probes"]


def test_words_of_the_command_line_come_before_the_presets() -> None:
    words = ("experiment=t1_classification", "model=rn101_mini", "seed=0,1", "attack=sig")
    jobs = _jobs("t1_classification", *words)
    assert len(jobs) == 4  # two defenses, two seeds
    assert all({"model=rn101_mini", "attack=sig"} <= set(job) for job in jobs)
    # What Hydra does with each of them: in a job, the preset stands there once more.
    cfg = _compose(*jobs[0])
    assert (cfg.model.name, cfg.attack.name, cfg.seed) == ("rn101_mini", "sig", 0)


# The steps from the paper's InverTune to ours, in their order.
CHAIN = ("scan", "shrinking", "embedding", "following")


def test_the_ablation_has_every_variant() -> None:
    listed = {word.partition("=")[2] for job in _jobs("t3_ablation") for word in job[1:2]}
    chain = {f"from_paper/{name}" for name in CHAIN}
    assert listed == {"invertune", "invertune_paper"} | chain | {
        f"ablation/{name}" for name in ABLATIONS
    }
    assert sorted(CHAIN) == sorted(
        path.stem for path in (CONF / "defense" / "from_paper").iterdir()
    )


# What each variant changes; None for what is not there.
CHANGES: dict[str, dict[str, Any]] = {
    "all_layers": {"tune.layers": 12},
    "batch_mean": {"tune.match": "batch_mean"},
    "first_layer": {"tune.layers": [0]},
    "last_layer": {"tune.layers": [-1]},
    "activation": {"tune.weights.activation": 0.3},
    "no_align": {"weights.align": 0.0},
    "no_augment": {"tune.augment": None},
    "no_emb": {"weights.emb": 0.0},
    "no_embedding": {"tune.weights.embedding": 0.0},
    "no_mask_budget": {
        "forms.0._target_": "invertune.perturb.FreeMask",
        "forms.0.mass": None,
        "forms.0.channels": 1,
        "lr.mask": 0.01,
    },
    "no_refresh": {"tune.refresh_every": 0},
    "no_preserve": {"tune.weights.preserve": 0.0, "tune.weights.cross_modal": 0.0},
    "no_leave_out": {"tune.leave_out": False},
    "no_cross_modal": {"tune.weights.cross_modal": 0.0},
    "no_sim": {"weights.sim": 0.0},
    "no_verify": {"verify": None, "rounds": 1},
    "one_layer": {"tune.layers": 1},
    "one_round": {"rounds": 1},
    "one_trigger": {
        "invert.forms.1": None,
        "invert.forms.3": None,
        "invert.forms.4": None,
        "invert.forms.2": None,
        "invert.starts": 1,
        "invert.kept": 1,
    },
    "update_layers": {"tune.update": "layers"},
    "update_neurons": {"tune.update": "neurons"},
}


def _differences(first: Any, second: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield where two configs differ, and what stands there in the second."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in {**first, **second}:
            yield from _differences(first.get(key), second.get(key), f"{place}.{key}")
    elif isinstance(first, list) and isinstance(second, list):
        for i in range(max(len(first), len(second))):
            pair = (each[i] if i < len(each) else None for each in (first, second))
            yield from _differences(*pair, f"{place}.{i}")
    elif first != second:
        yield place.removeprefix("."), second


# Variants that have another class in place of a step, and whose that step is.
REPLACED = {
    "losses": "invert",
    "raw_perturbation": "invert",
    "activations": "identify",
    "by_advclip": "identify",
    "probes": "identify",
    "by_votes": "identify",
    "negation": "tune",
}
# What a step in another class's place cannot do without.
ALONG = {
    "losses": {"tune.refresh_every"},
    "raw_perturbation": {"tune.refresh_every"},
    "negation": {"rounds"},
}
# Variants of the one that has the paper's losses for step 2.
OF_LOSSES = ("no_align", "no_emb", "no_mask_budget", "no_sim")
# Variants of the one with L_activation, without which layers, clusters and what is matched are no
# matter where every weight moves.
OF_ACTIVATION = ("all_layers", "batch_mean", "first_layer", "last_layer", "one_layer")


def _variant(name: str) -> dict[str, Any]:
    config: dict[str, Any] = _resolved(("attack=badnet", f"defense={name}", "seed=0"))
    return config


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_changes_what_it_says(variant: str) -> None:
    of = "losses" if variant in OF_LOSSES else "activation" if variant in OF_ACTIVATION else ""
    whole = _variant(f"ablation/{of}" if of else "invertune")
    config = _variant(f"ablation/{variant}")
    changed = dict(_differences(whole["defense"], config["defense"]))
    assert changed.pop("name") == f"invertune_{variant}"
    assert re.fullmatch(r"[A-Za-z0-9_-]+", config["defense"]["name"])
    if variant in REPLACED:
        replaced = {place.split(".")[0] for place in changed if place not in ALONG.get(variant, ())}
        assert replaced == {REPLACED[variant]}
        assert ALONG.get(variant, set()) <= set(changed)
    else:
        step = "invert." if variant in OF_LOSSES else ""
        assert changed == {f"{step}{place}": value for place, value in CHANGES[variant].items()}
    built = build(config["defense"])
    assert isinstance(built, InverTune)
    assert built.clean_samples <= config["data"]["sizes"]["clean"]


def test_each_change_from_the_paper_to_ours_is_one() -> None:
    paper, *chain, last, ours = (
        build(_variant(name)["defense"])
        for name in ("invertune_paper", *(f"from_paper/{name}" for name in CHAIN),
                     "ablation/one_round", "invertune")
    )  # fmt: skip
    scan, shrinking, embedding, following = chain
    assert scan == replace(ours, name=scan.name, invert=paper.invert, tune=paper.tune, rounds=1)
    assert shrinking == replace(scan, name=shrinking.name, invert=ours.invert)
    plain = replace(ours.tune, refresh_every=0, leave_out=False)
    assert embedding == replace(shrinking, name=embedding.name, tune=plain)
    follow = replace(ours.tune, leave_out=False)
    assert following == replace(embedding, name=following.name, tune=follow)
    assert last == replace(following, name=last.name, tune=ours.tune)
    assert ours == replace(last, name=ours.name, rounds=2)


def test_replaced_steps_are_those_of_the_votes() -> None:
    votes = build(_variant("invertune_votes")["defense"])
    raw = build(_variant("ablation/raw_perturbation")["defense"]).invert
    assert isinstance(raw, RawPerturbation)
    assert (raw.generators, raw.images) == (votes.identify.generators, votes.identify.images)
    assert build(_variant("ablation/losses")["defense"]).invert == votes.invert
    assert build(_variant("ablation/by_votes")["defense"]).identify == votes.identify


@pytest.mark.parametrize("preset", PRESETS)
def test_what_an_experiment_shows_is_no_part_of_a_runs_config(preset: str) -> None:
    cfg = _compose(f"experiment={preset}")
    assert plain_config(cfg) == _resolved(())
    assert cfg.experiment.id  # and it was there
