"""Options that must be numbers are refused where they are true or null, by name, when the job is built."""

import pytest
from omegaconf import DictConfig, OmegaConf

from shiftbench.config import composition
from shiftbench.config.instantiation import instantiate
from shiftbench.errors import InputError
from shiftbench.pipeline.job import Responses
from shiftbench.sweep.gpus import leased

TYPED = [(None, "null"), (True, "true")]
MAY_BE_NULL = {"prompts", "tokens"}  # of explain/faithfulness: null means all of them


def numbers(node, path=""):
    """The paths, with dots, of all numbers in a part of a configuration."""
    for name, value in node.items():
        if isinstance(value, DictConfig):
            yield from numbers(value, f"{path}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{name}"


@pytest.mark.parametrize(("value", "typed"), TYPED)
@pytest.mark.parametrize(
    "part",
    [
        "findings.instruction_recognition", "findings.instruction_verbs", "findings.concept_rotation",
        "findings.attribution_faithfulness", "findings.instruction_position", "findings.key_part_gain", "control",
        "vocabulary",
    ],
)  # fmt: skip
def test_true_and_null_are_no_numbers(part, value, typed):
    config = composition.compose("config", ["pair=demo", "suite=claims", "control=permuted"])
    options = OmegaConf.select(config, part)
    found = list(numbers(options))
    assert found
    for path in found:
        name = path.rpartition(".")[2]
        if value is None and name in MAY_BE_NULL:
            continue
        changed = OmegaConf.create(OmegaConf.to_container(options, resolve=True))
        OmegaConf.update(changed, path, value)
        with pytest.raises(InputError, match=rf"\b{name}={typed} must be a (whole )?number"):
            instantiate(changed)


@pytest.mark.parametrize(("value", "typed"), TYPED)
@pytest.mark.parametrize("name", ["concurrency", "retries", "budget", "timeout"])
def test_true_and_null_are_no_numbers_for_a_chat_model(name, value, typed):
    config = composition.compose("config", ["pair=demo", "annotate=openai"])
    config.annotate[name] = value
    with pytest.raises(InputError, match=rf"annotate\.{name}={typed} must be a (whole )?number"):
        instantiate(config.annotate)


def test_a_number_of_gpus_is_a_number(tmp_path):
    for count, typed in TYPED:
        with pytest.raises(InputError, match=f"gpus={typed} must be a whole number"):
            with leased(count, ["0"], print, tmp_path):
                pass


def test_no_response_mode_is_refused_with_the_modes():
    with pytest.raises(
        InputError, match=r"^response\.mode=null is not a response mode; choose from shared, own, reference$"
    ):
        Responses(None, None, 10)
    with pytest.raises(InputError, match=r"^response\.beside='mine' is not a response mode; choose from shared"):
        Responses("own", "mine", 10)
    assert Responses("own", None, 10).modes == ["own"]


@pytest.mark.parametrize(("value", "typed"), [*TYPED, (0, "0"), (1.5, "1.5")])
def test_the_length_of_responses_is_a_whole_number(value, typed):
    with pytest.raises(InputError, match=f"response.max_new_tokens={typed} must be a whole number of at least 1"):
        Responses("own", None, value)
