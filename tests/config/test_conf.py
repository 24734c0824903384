"""Every file in conf/ composes, and what it names can be made."""

from pathlib import Path

import pytest
from hydra.utils import instantiate

from shiftbench.config import composition

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.glob("*/*.yaml"))
NEEDED = {
    ("dataset", "jsonl"): ["dataset.path=/nowhere.jsonl"],
    ("vocabulary", "tsv"): ["vocabulary.path=/nowhere.tsv"],
    ("vectors", "text"): ["vectors.path=/nowhere.txt"],
    ("pair", "local"): ["pair.base=/b", "pair.tuned=/t"],
    ("control", "continued"): ["control.path=/c"],
    ("ratings", "file"): ["one.path=/nowhere.jsonl"],
    ("finding", "followed_instructions"): ["one.ratings.path=/nowhere.jsonl"],
}
READS_A_FILE = {
    ("vocabulary", "tsv"), ("vectors", "text"), ("ratings", "file"), ("finding", "followed_instructions"),
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=str)
def test_it_composes_and_instantiates(file):
    group, name = file.parts
    mounted = (
        group
        if group in ("pair", "dataset", "vocabulary", "vectors", "tracking", "control", "suite")
        else f"+{group}@one"
    )
    pair = [] if group == "pair" else ["pair=demo"]
    config = composition.compose("config", [*pair, f"{mounted}={name}", *NEEDED.get((group, name), [])])
    if group == "suite":
        made = instantiate(config.findings, _convert_="all")
        papers = {"instruction_recognition", "instruction_verbs", "concept_rotation"}
        probes = {"instruction_recognition", "instruction_position", "key_part_gain"}
        of_suite = {"probes": probes, "claims": probes | papers}
        assert set(made) == of_suite.get(name, papers) | {"attribution_faithfulness"}
    elif (group, name) not in READS_A_FILE:
        instantiate(config[group] if group in config else config.one, _convert_="all")


def test_the_defaults_are_the_papers():
    config = composition.compose("config", ["pair=demo"])
    recognition = config.findings.instruction_recognition
    assert (recognition.explain.levels, recognition.cutoff, recognition.p) == (10, 7, 4)
    assert config.findings.instruction_verbs.explain.k == 100
    assert (config.findings.concept_rotation.explain.rank, config.findings.concept_rotation.explain.top) == (300, 50)
    assert (config.response.max_new_tokens, config.template, config.response.mode) == (200, "none", "shared")
