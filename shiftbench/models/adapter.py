"""PEFT adapters: whether one fits its base, and putting it on. The package peft is imported only where it is needed.

An adapter is read from two files, adapter_config.json and adapter_model.safetensors. The configuration and the header
of the weights are checked before PEFT gets either. PEFT gets the checked configuration as an object and never reads
adapter_config.json itself. Without these checks PEFT would open pickled weights where an adapter has no safetensors
file, load further adapters or models that the configuration names, and import a Python module that the configuration
names.
"""

from __future__ import annotations

import copy
import gc
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from shiftbench.errors import InputError
from shiftbench.models.finite import not_finite_error
from shiftbench.models.hub import as_input_error, hub_file, quiet
from shiftbench.models.source import ADAPTER_CONFIG, ADAPTER_WEIGHTS, DTYPES, ModelSource, hub_id_or_folder
from shiftbench.models.weight_files import FLOATS, json_object
from shiftbench.readers import one_line, reading
from shiftbench.readers.patterns import PLAIN, check_patterns
from shiftbench.readers.tensor_headers import StoredTensor, safetensors_header

LARGEST_CONFIG = 2**20  # most bytes of an adapter_config.json; a usual configuration has 1 kB
LONGEST_LIST = 10_000  # most entries of a list or an object that is the value of a field of the configuration
# Python keeps 512 compiled patterns. PEFT tries the entries of TRIED_ON_EVERY on every module of the base. Where a
# configuration makes more than KEPT_COMPILED patterns, each is compiled anew for each module: 1,000 modules_to_save
# took 39 s on 32 layers, and 500 took 0.6 s. So such a configuration may have at most MOST_TRIED entries there. The
# keys of KEYED_BY_PATTERNS are tried on adapted layers alone, up to the first that fits: 560 ranks took 5 s.
KEPT_COMPILED, MOST_TRIED = 500, 50
TRIED_ON_EVERY = ("modules_to_save", "layers_pattern")
MOST_ITERATIONS = 100  # most iterations of PiSSA's approximate singular value decomposition; 4 to 16 are usual
PROBES = 8  # number of tokens of the text whose logits are compared between PEFT's model and the model that is used
# dtype -> how far merging an adapter may move the logits, as a fraction of the largest absolute logit. On random models
# of 2 to 24 layers, merging in float32 moved them by 1e-6 to 6e-6, by rounding alone. In half precision every merged
# weight is rounded too: on the same models that moved the logits by 1e-2 to 8e-2 in bfloat16 and by 2e-3 to 1e-2 in
# float16.
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 2e-1, "float16": 3e-2}

# Fields that are removed before PEFT gets the configuration. No forward pass needs them, and some of them name modules
# that PEFT can import or models that it can look up.
NOT_PASSED_TO_PEFT = ("auto_mapping", "base_model_name_or_path", "revision", "runtime_config")
# Adapter type -> what else PEFT would load for it, in words for the message. Adapters of these types are refused.
OTHERS = {"XLORA": "other adapters", "SHADOW": "another model"}
# Field -> why an adapter is refused whose configuration sets it to anything but null, false, 0 or an empty value, in
# words for the message.
UNSUITABLE = {
    "layer_replication": "it repeats layers of its base, so the tuned model has other layers, and a pair is compared "
    "layer by layer",
    "alora_invocation_tokens": "it changes the weights only after certain tokens of a text (aLoRA), so the tuned model "
    "has no one set of weights to compare",
    "megatron_config": "it is for Megatron's layers; export it for the layers of transformers",
    "arrow_config": "it chooses among several adapters (Arrow), and one adapter is compared",
}

# Fields whose keys are regular expressions, for the names of layers with a setting of their own.
KEYED_BY_PATTERNS = ("rank_pattern", "alpha_pattern", "lambda_pattern", "n_frequency_pattern", "block_size_pattern")

# Field -> (what its value must be, in words for the message; a function that says whether a value is that). Only fields
# that the configuration holds are checked. LoRA has all of these fields, and other adapter types have some of them. On
# a wrong value PEFT may fail without naming the field, so they are checked before PEFT is called.
FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "r": ("a whole number", lambda value: type(value) is int),
    "lora_alpha": ("a number", lambda value: type(value) in (int, float)),
    "lora_dropout": ("a number", lambda value: type(value) in (int, float)),
    "rank_pattern": (
        "an object of whole numbers of at least 1",
        lambda value: _is_object(value, (int,)) and min((value or {}).values(), default=1) >= 1,
    ),
    "alpha_pattern": ("an object of numbers", lambda value: _is_object(value, (int, float))),
    "target_modules": ("a pattern, a list of names or null", lambda value: value is None or _is_names(value, str)),
    "exclude_modules": ("a pattern, a list of names or null", lambda value: value is None or _is_names(value, str)),
    "modules_to_save": ("a list of names or null", lambda value: value is None or _is_names(value)),
}
# Adapter type -> fields whose values are others in that type than FIELDS says. Source: the configurations of PEFT 0.21,
# and resize_modules_by_rank_pattern of AdaLoRA.
FIELDS_OF_TYPE: dict[str, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    # The ranks that AdaLoRA's training left: name of a layer's lora_E -> for each of init_r ranks whether it is kept.
    "ADALORA": {
        "init_r": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
        "rank_pattern": (
            "an object of lists of true and false, whose keys are names of weights",
            lambda value: (
                _is_object(value, (list,))
                and all(PLAIN.fullmatch(name) and "." in name for name in value or {})
                and all(type(kept) is bool for each in (value or {}).values() for kept in each)
            ),
        ),
    },
    "OSF": {
        "effective_rank": (
            "a whole number of at least 1, a share in (0, 1] or null",
            lambda value: _is_rank_or_share(value),
        ),
        "rank_pattern": (
            "an object of whole numbers of at least 1, shares in (0, 1] and nulls",
            lambda value: value is None or (isinstance(value, dict) and all(map(_is_rank_or_share, value.values()))),
        ),
    },
    "SUPERTUNING": {
        "r": ("a whole number or null", lambda value: value is None or type(value) is int),
        "lora_alpha": ("a number or null", lambda value: value is None or type(value) in (int, float)),
    },
}


@dataclass(frozen=True)
class Adapter:
    """An adapter's files, checked as far as is possible without its base.

    folder: holds adapter_model.safetensors. settings: the fields of the adapter's configuration that PEFT gets.
    base_name: the base that the configuration names, or words that say that it names none. notes: one remark for the
    report, which lists the fields that PEFT does not know and that are not null, false, 0 or empty; no remark where
    there are none. tensors: name in adapter_model.safetensors -> the tensor's dtype and shape, as the file's header
    gives them.
    """

    folder: Path
    settings: Mapping[str, Any]
    base_name: str
    notes: tuple[str, ...]
    tensors: Mapping[str, StoredTensor]

    def config(self) -> Any:
        """The settings as a PEFT configuration; a new one at each call, because PEFT changes the one that it gets."""
        import peft

        return peft.PeftConfig.from_peft_type(**copy.deepcopy(dict(self.settings)))


def skeleton(config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    """The model of a configuration on the meta device: names and shapes, without memory for the weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def check_fits(source: ModelSource, config: PreTrainedConfig) -> None:
    """Check that an adapter fits its base.

    config: the base's configuration. Reads the adapter's configuration and the header of the adapter's weights, never
    the base's weights. The adapter's files are downloaded where the hub's cache lacks them. Raises InputError where one
    of them is missing, pickled, damaged or cannot be downloaded, where the adapter is of a type or has a setting that
    cannot be used, where its patterns take too long to match, where it does not fit the base's layers, and where the
    base cannot be built from `config`.
    """
    found = _read_adapter(source)

    def base() -> PreTrainedModel:  # a new skeleton at each call: PEFT changes the module and its configuration
        return skeleton(copy.deepcopy(config), source.trust_remote_code)

    with as_input_error(f"model {source.path}"):
        plain = base()
    # Patterns are also tried on the names of parameters (target_parameters), which are longer than those of layers.
    names = [name for named in (plain.named_modules(), plain.named_parameters()) for name, _ in named]
    check_patterns(
        list(_patterns(found.settings)),
        names,
        f"adapter {source.adapter}: {ADAPTER_CONFIG}",
        searched=_searched(found.settings),
    )
    with as_input_error(f"adapter {source.adapter}: {ADAPTER_CONFIG}"):
        misfit = _first_misfit(found, sum(tensor.numel() for tensor in plain.state_dict().values()), base)
    if misfit:
        raise InputError(
            f"adapter {source.adapter} does not fit: it was made for {found.base_name}, and on {source.path} {misfit}"
        )


def attach(source: ModelSource, read: Callable[[], PreTrainedModel]) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """(the base with its adapter merged into the weights or kept in its layers, remarks for the report).

    The model's parameters have the source's dtype. The adapter is kept in the layers, beside the weights, in four
    cases: source.merge_adapter is false; PEFT cannot merge it; merging would change a weight that another layer shares;
    the merged model computes something else than PEFT's model does (the logits of PROBES tokens differ, relative to the
    largest of them, by more than TOLERANCE). The remarks are the adapter's notes and, in the last three cases, why it
    is not merged.

    read: reads the base from disk. It is called a second time where a merge was tried and its result is not used,
    because a merge cannot be undone exactly. The merged weights are freed first, so that the base's weights are never
    in memory twice.

    Raises InputError where a file of the adapter or one of its settings cannot be used, where PEFT cannot put the
    adapter on, where a forward pass fails, where PEFT's model gives logits that are not finite, and where the model
    with the kept adapter does not compute what PEFT's model computes.
    """
    found = _read_adapter(source)
    notes = list(found.notes)
    adapted = _put_on_base(source, found, read())
    wanted_TV = _logits(adapted, source)
    if source.merge_adapter:
        why = _shared_weight(adapted)
        if why is None:
            merged, why = _merged(adapted, source, wanted_TV)
            if merged is not None:
                return _cast(merged, source), tuple(notes)
            del adapted, merged
            gc.collect()
            adapted = _put_on_base(source, found, read())
        notes.append(
            f"The adapter {source.adapter} is kept beside the weights and not merged into them: {why}. The model "
            f"computes what PEFT computes."
        )
    kept: PreTrainedModel = adapted.get_base_model()
    moved = _relative_difference(wanted_TV, _logits(kept, source))
    # PEFT's model and `kept` run the same layers, so their logits must agree to float32's tolerance in every dtype.
    if not moved <= TOLERANCE["float32"]:
        raise InputError(
            f"adapter {source.adapter}: the base's layers with the adapter do not compute what PEFT computes: the "
            f"logits of {PROBES} tokens move by {moved:.1e} of the largest logit, so this kind of adapter "
            f"cannot be compared"
        )
    return _cast(kept, source), tuple(notes)


def _merged(adapted: Any, source: ModelSource, wanted_TV: Tensor) -> tuple[PreTrainedModel, None] | tuple[None, str]:
    """(the base with the adapter merged into its weights, None), or (None, why that model cannot be used).

    It cannot be used where PEFT fails to merge, or where merging moves the logits to NaN or, relative to the largest
    of them, by more than TOLERANCE.
    adapted: PEFT's model, which is of no use after the call, because PEFT merges in place. wanted_TV: the logits of
    PROBES tokens that `adapted` gave before the merge. Raises InputError where the merged model's forward pass fails.
    """
    try:
        with quiet(), reading("PEFT cannot merge it"):
            merged: PreTrainedModel = adapted.merge_and_unload()
    except InputError as error:
        return None, str(error)
    moved = _relative_difference(wanted_TV, _logits(merged, source, must_be_finite=False))
    if moved <= TOLERANCE[source.dtype]:
        return merged, None
    return None, (
        f"merging moves the logits of {PROBES} tokens by {moved:.1e} of the largest logit, and rounding moves them by "
        f"less than {TOLERANCE[source.dtype]:.0e} in {source.dtype}"
    )


def _put_on_base(source: ModelSource, found: Adapter, module: PreTrainedModel) -> Any:
    """PEFT's model of a base and an adapter with the adapter's weights loaded, in eval mode.

    found: the adapter. module: the base, which PEFT changes in place. Raises InputError where PEFT fails.
    """
    import peft

    with as_input_error(f"adapter {source.adapter}"):
        return peft.PeftModel.from_pretrained(module, str(found.folder), config=found.config()).eval()


def _cast(module: PreTrainedModel, source: ModelSource) -> PreTrainedModel:
    """The same module, after its parameters are converted in place to the source's dtype."""
    # An adapter's weights may have another dtype than the base's, and their layers would compute in that dtype.
    for parameter in module.parameters():
        parameter.data = parameter.data.to(DTYPES[source.dtype])
    return module


@torch.no_grad()
def _logits(model: Any, source: ModelSource, must_be_finite: bool = True) -> Tensor:
    """logits_TV that a model gives for one text of PROBES token ids, spread evenly over its rows of input embeddings.

    They are in float64 where the model computes in float64, else in float32. Raises InputError where the forward pass
    fails and, if must_be_finite, where a logit is NaN or inf.
    """
    embedding = model.get_input_embeddings()
    device = next(embedding.parameters()).device
    rows = int(embedding.weight.shape[0])
    ids_T = torch.arange(PROBES) * (rows // PROBES) + min(1, rows - 1)
    with as_input_error(f"model {source.name}: its forward pass fails"):
        logits_TV: Tensor = model(input_ids=ids_T.clamp_max(rows - 1)[None].to(device), use_cache=False).logits[0]
    logits_TV = logits_TV if logits_TV.dtype == torch.float64 else logits_TV.float()
    if must_be_finite and not torch.isfinite(logits_TV).all():
        raise not_finite_error(source.name, source.dtype, f"the logits of {PROBES} tokens are not finite (NaN or inf)")
    return logits_TV


def _relative_difference(wanted_TV: Tensor, found_TV: Tensor) -> float:
    """The largest absolute difference between two arrays of logits, divided by the largest absolute wanted logit.

    It is NaN where a logit is NaN.
    """
    largest = wanted_TV.abs().amax().clamp_min(torch.finfo(wanted_TV.dtype).tiny)
    return float((found_TV.to(wanted_TV) - wanted_TV).abs().amax() / largest)


def _shared_weight(adapted: Any) -> str | None:
    """The first weight that a merge would change although another layer uses it too, in words; None: there is none.

    adapted: PEFT's model. PEFT adds an adapter's product to a layer's weight in place. Tied embeddings are one tensor,
    so a LoRA on the input embeddings would be added to the output embeddings as well.
    """
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    module = adapted.get_base_model()
    users: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    for name, layer in module.named_modules():
        # Trainable tokens are harmless: merging overwrites rows with new values, so merging twice into a shared weight
        # gives the same rows, and PEFT puts the same trained rows into both tied layers.
        if not isinstance(layer, BaseTunerLayer) or isinstance(layer, TrainableTokensLayer):
            continue
        for parameter in layer.get_base_layer().parameters(recurse=False):
            others = [user for user in users.get(id(parameter), []) if not user.startswith(f"{name}.")]
            if others:
                other = others[0].rpartition(".")[0].replace(".base_layer", "")
                return f"its layer {name!r} shares a weight with {other!r}, which merging would change too"
    return None


def _read_adapter(source: ModelSource) -> Adapter:
    """The source's adapter, from its two files, which are downloaded where the hub's cache lacks them.

    PEFT gets nothing of the files: only the names of its adapter types and of their fields are looked up. Of the
    weights, the header is read. Raises InputError where a file is missing, damaged, pickled or cannot be downloaded,
    and as `_check_settings` does.
    """
    import peft

    what, place = f"adapter {source.adapter}", hub_id_or_folder("adapter", str(source.adapter))
    config, weights = (_file(place, name, what) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
    if config is None:
        raise InputError(f"{what} has no {ADAPTER_CONFIG}; give the folder that PEFT's save_pretrained wrote")
    declared = json_object(config, f"{what}: {ADAPTER_CONFIG}", LARGEST_CONFIG)
    settings = {name: value for name, value in declared.items() if name not in NOT_PASSED_TO_PEFT}
    known = _check_settings(settings, what)
    if weights is None:
        raise InputError(f"{what} has no {ADAPTER_WEIGHTS}; only safetensors files are read")
    tensors = {tensor.name: tensor for tensor in safetensors_header(weights, f"{what}: {ADAPTER_WEIGHTS}")}
    unknown = sorted(name for name, value in settings.items() if name not in known and value)
    notes = [f"PEFT {peft.__version__} does not know, and leaves out, these settings of {what}: {', '.join(unknown)}."]
    base_name = declared.get("base_model_name_or_path")
    return Adapter(
        weights.parent,
        {name: value for name, value in settings.items() if name in known},
        base_name if isinstance(base_name, str) else "a base that it does not name",
        tuple(notes) if unknown else (),
        tensors,
    )


def _file(place: str, name: str, what: str) -> Path | None:
    """A file of an adapter: in its folder, or downloaded from the hub; None where the adapter has no such file.

    place: the adapter's folder or hub id. name: the file's name. what: the adapter, for messages. Raises InputError
    where the hub's cache lacks the file and the hub cannot be reached, refuses, or has no such repository.
    """
    if Path(place).is_dir():
        return Path(place, name) if Path(place, name).is_file() else None
    with as_input_error(what):
        return hub_file(place, name, None)


def _check_settings(settings: Mapping[str, Any], what: str) -> set[str]:
    """Check the settings of an adapter, and return the names of all fields that PEFT knows for its type.

    what: the adapter, for messages. Raises InputError in these cases:
    - PEFT does not know the type, or the type changes no weights or is one of OTHERS;
    - a field of UNSUITABLE is set;
    - a field of FIELDS or FIELDS_OF_TYPE has a value that is not accepted there;
    - a list or an object has more than LONGEST_LIST entries;
    - TRIED_ON_EVERY has more than MOST_TRIED entries, and PEFT makes more than KEPT_COMPILED patterns;
    - a list of AdaLoRA's ranks is not init_r long;
    - PiSSA is to run more than MOST_ITERATIONS iterations.
    """
    with as_input_error(what):
        import peft
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        types: dict[str, Any] = {getattr(kind, "value", kind): of for kind, of in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kind = settings.get("peft_type")
    if not isinstance(kind, str) or kind not in types:
        raise InputError(
            f"{what}: {ADAPTER_CONFIG}: peft_type {kind!r} is not known to PEFT {peft.__version__}; "
            f"known are {', '.join(sorted(types))}"
        )
    if issubclass(types[kind], peft.PromptLearningConfig):
        raise InputError(
            f"{what} is of type {kind}: it adds virtual tokens and changes no weight, so there is nothing to compare; "
            f"give an adapter that changes weights, such as LoRA"
        )
    if kind in OTHERS:
        raise InputError(
            f"{what} is of type {kind}: it also loads {OTHERS[kind]}, which shiftbench does not do; give a LoRA"
        )
    for field, why in UNSUITABLE.items():
        if settings.get(field):
            raise InputError(f"{what}: {ADAPTER_CONFIG} has {field}: {why}")
    for field, (wanted, fine) in {**FIELDS, **FIELDS_OF_TYPE.get(kind, {})}.items():
        if field in settings and not fine(settings[field]):
            raise InputError(f"{what}: {ADAPTER_CONFIG}: {field} must be {wanted}, got {str(settings[field])[:100]!r}")
    for field, value in settings.items():
        if isinstance(value, list | dict) and len(value) > LONGEST_LIST:
            raise InputError(
                f"{what}: {ADAPTER_CONFIG}: {field} has {len(value):,} entries; at most {LONGEST_LIST:,} are read"
            )
    tried = {(field, name) for field in TRIED_ON_EVERY for name in _names(settings.get(field))}
    patterns = len(set(_patterns(settings)))
    if len(tried) > MOST_TRIED and patterns > KEPT_COMPILED:
        raise InputError(
            f"{what}: {ADAPTER_CONFIG}: {' and '.join(TRIED_ON_EVERY)} name {len(tried):,} modules, and PEFT makes "
            f"{patterns:,} patterns of the whole configuration, which takes it too long; name at most {MOST_TRIED} "
            f"modules there, or make at most {KEPT_COMPILED} patterns in all"
        )
    if kind == "ADALORA":
        _check_kept_ranks(settings, what)
    iterations = re.fullmatch(r"pissa_niter_(\d+)", str(settings.get("init_lora_weights")))
    if iterations and int(iterations[1]) > MOST_ITERATIONS:
        raise InputError(f"{what}: {ADAPTER_CONFIG}: init_lora_weights={iterations[0]!r} asks for too many iterations")
    return set(inspect.signature(types[kind].__init__).parameters) - {"self"}


def _is_object(value: Any, of: tuple[type, ...]) -> bool:
    """Whether a JSON value is null, or an object (dict) whose values all have exactly one of these types."""
    return value is None or (isinstance(value, dict) and all(type(inner) in of for inner in value.values()))


def _is_rank_or_share(value: Any) -> bool:
    """Whether a value is null, a whole number of at least 1, or a fraction in (0, 1]."""
    return value is None or (type(value) is int and value >= 1) or (type(value) is float and 0 < value <= 1)


def _check_kept_ranks(settings: Mapping[str, Any], what: str) -> None:
    """Raise InputError where a list in AdaLoRA's rank_pattern has another length than init_r. what: the adapter."""
    first = settings.get("init_r", 12)  # PEFT's own value where the configuration has none
    for name, kept in (settings.get("rank_pattern") or {}).items():
        if len(kept) != first:
            raise InputError(
                f"{what}: {ADAPTER_CONFIG}: rank_pattern has {len(kept):,} values for {name[:100]!r}, and init_r is "
                f"{first:,}"
            )


def _is_names(value: Any, *or_of: type) -> bool:
    """Whether a value is a list of strings, or is itself of one of the types in `or_of`."""
    return isinstance(value, or_of) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _patterns(settings: Mapping[str, Any]) -> Iterator[str]:
    """The regular expressions that PEFT builds from the settings and tries on names by re.match or re.fullmatch.

    The names are those of layers and parameters. Source: check_target_module_exists and get_pattern_key of PEFT 0.21,
    and the function _create_and_replace of each adapter type.
    """
    for field in ("target_modules", "exclude_modules", "feedforward_modules"):
        if isinstance(settings.get(field), str):  # in a list they are ends of names, and no patterns
            yield settings[field]
    yield from (_in_a_name(name) for name in _names(settings.get("modules_to_save")))
    targets = settings.get("target_modules")
    if settings.get("ensure_weight_tying") and isinstance(targets, list):
        # Only here PEFT makes patterns of a list of targets. Such a list may be long, and plain names are matched fast.
        yield from (_in_a_name(name) for name in _names(targets) if not PLAIN.fullmatch(name))
    for field in KEYED_BY_PATTERNS:
        keys = _names(list(settings[field])) if isinstance(settings.get(field), dict) else []
        if field == "rank_pattern" and settings.get("peft_type") == "ADALORA":
            continue  # names of weights, which have been checked to be plain
        yield from (rf"(.*\.)?({key})$" for key in keys)
        if field in ("n_frequency_pattern", "block_size_pattern"):  # FourierFT and C3A put no brackets around the key
            yield from (rf".*\.{key}$" for key in keys)
    yield from (rf"(?:^|.*?\.){name}\.(?P<idx>\d+)\." for name in _names(settings.get("layers_pattern")))


def _searched(settings: Mapping[str, Any]) -> list[str]:
    """The regular expressions that PEFT tries on the names of layers by re.search: those of OSF's ranks."""
    ranks = settings.get("rank_pattern")
    return list(ranks) if settings.get("peft_type") == "OSF" and isinstance(ranks, dict) else []


def _in_a_name(name: str) -> str:
    """The pattern that PEFT builds from an entry of a list, for names that contain it between dots."""
    return rf"(^|.*\.){name}($|\..*)"


def _names(value: Any) -> list[str]:
    """The strings of a setting that is a string or a list of strings; [] for any other setting."""
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str)]


def _first_misfit(found: Adapter, before: int, base: Callable[[], PreTrainedModel]) -> str | None:
    """The first reason why an adapter's weights do not fit a base, in words; None where they fit.

    found: the adapter. before: how many numbers the base has without the adapter. base: makes a skeleton of the base.
    PEFT builds the adapter on a skeleton, whose tensors take no memory, because a configuration may declare a rank of
    any size. Reasons are, in this order: the message of a ValueError with which PEFT refuses the adapter; more numbers
    declared for the adapter than `before` plus twice those that its file holds; a tensor that the file lacks; and a
    tensor of the file that has no place, another shape or a quantised dtype. A tensor without a place counts only where
    the adapter is a LoRA or the tensor's name contains "lora_". Other exceptions of PEFT, and InputErrors, are raised.
    """
    import peft
    from peft.utils import get_peft_model_state_dict

    wanted = found.config()
    kept_ranks: dict[str, list[bool]] = {}
    if found.settings.get("peft_type") == "ADALORA":
        # PEFT selects the kept ranks by value, which fails on a skeleton, so the skeleton has init_r of them.
        kept_ranks, wanted.rank_pattern = wanted.rank_pattern or {}, None
    if hasattr(wanted, "init_lora_weights"):
        wanted.init_lora_weights = True  # some other choices compute from the base's weights, which a skeleton lacks
    try:
        with quiet():
            adapted = _build_on_skeleton(wanted, found, base)
    except InputError:
        raise
    except ValueError as error:
        return one_line(error)
    with quiet():
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    for name, kept in kept_ranks.items():
        layer = f"base_model.model.{_adapted_layer(name)}"
        for part, axis in (("lora_A", 0), ("lora_E", 0), ("lora_B", 1)):
            whole = expected.get(f"{layer}.{part}")
            if whole is None:
                return f"its rank_pattern names {name!r}, which the adapter does not change"
            expected[f"{layer}.{part}"] = whole.narrow(axis, 0, sum(kept))
    places = {**adapted.state_dict(), **expected}
    added = sum(tensor.numel() for part in (adapted.parameters(), adapted.buffers()) for tensor in part) - before
    stored = sum(tensor.values for tensor in found.tensors.values())
    if added > before + 2 * stored:
        return f"it declares {added:,} numbers, and its file holds {stored:,}"
    for name in sorted(expected):
        if name not in found.tensors:
            return f"there is no weight {name!r} in it"
    for name, tensor in sorted(found.tensors.items()):
        if name not in places:
            if "lora_" in name or isinstance(wanted, peft.LoraConfig):
                return f"there is no place for its weight {name!r}"
        elif tuple(places[name].shape) != tensor.shape:
            return f"weight {name!r} would have shape {tuple(places[name].shape)}, not {tensor.shape}"
        elif places[name].is_floating_point() and tensor.dtype not in FLOATS:
            return f"weight {name!r} would be a plain float, not {tensor.dtype}: it is quantised"
    return None


def _adapted_layer(name: str) -> str:
    """The layer that a key of AdaLoRA's rank_pattern is about, as PEFT reads it: without lora_E and the adapter's name.

    PEFT loads an adapter under the name "default".
    """
    return ".".join(name.split(".")[: -2 if "default" in name else -1])


def _build_on_skeleton(wanted: Any, found: Adapter, base: Callable[[], PreTrainedModel]) -> Any:
    """PEFT's model of a skeleton of the base and the adapter's configuration, without the adapter's weights.

    The adapter is built on the meta device; where its type cannot be built there, it is built in memory. wanted: the
    configuration for the meta device; in memory found.config() is used. found: the adapter. base: makes a skeleton of
    the base. Raises InputError where both conditions hold: the type of adapter cannot be built on the meta device, and
    the value of a setting is a whole number larger than the count of numbers in the adapter's file. Numbers inside
    lists and objects, and settings with "seed" in the name, are not compared.
    """
    import peft

    try:
        with torch.device("meta"):
            return peft.get_peft_model(base(), wanted, low_cpu_mem_usage=True)
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
    # Some types (BOFT, Uni-LoRA) compute from random draws, which fails on the meta device. Their tensors are built in
    # memory, but only if no setting is a whole number above the count of numbers in the file, seeds left aside.
    stored = sum(tensor.values for tensor in found.tensors.values())
    for field, value in found.settings.items():
        if type(value) is int and value > stored and "seed" not in field:
            raise InputError(f"{field}={value} is more than the {stored:,} numbers that its file holds")
    return peft.get_peft_model(base(), found.config(), low_cpu_mem_usage=True)
