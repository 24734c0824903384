"""A model's tokenizer: loading it, the digest that identifies it, and the first difference between two tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file
from transformers.utils.hub import resolve_revision

from shiftbench.errors import InputError
from shiftbench.models.declared import check_bounds, check_files_named
from shiftbench.models.hub import as_input_error, optional_file, without_panics
from shiftbench.models.parts import gguf_path
from shiftbench.models.source import ModelSource, hub_id_or_folder
from shiftbench.models.weight_files import LARGEST_JSON, json_object
from shiftbench.readers import file_bytes, reading
from shiftbench.readers.tensor_headers import refuse_lfs_pointer

# The files of a tokenizer that are checked: JSON objects with settings, and tables of tokens. None of them holds code.
SETTINGS = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TABLES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
LARGEST_ID = 10_000_000  # largest id of a token that is accepted; the largest vocabularies have 260,000 tokens
LARGEST = 256 * 2**20  # most bytes of a file, except config.json; a vocabulary of 256,000 tokens takes 35 MB

# Texts on which two tokenizers of one vocabulary may differ: spaces, line ends, digits, case, accents, code, scripts,
# zero-width joiners.
PROBES = (
    "Write a short story about 12,345 robots.\n\nInput: It's 9:30 already!\tOutput:  two  spaces",
    "def f(x):\n    return {'a': x ** 2}  # café naïve Ångström № ½",
    "漢字かな交じり文 한국어 Привет, мир! مرحبا 👩‍💻 e\u0301",
)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerFast:
    """The tokenizer of a model: the one that source.tokenizer names, else the adapter's, else the model's own.

    Raises InputError where one of its files cannot be downloaded, is a git-lfs pointer, too large or malformed, where
    it gives a token an id beyond LARGEST_ID, where it is not a fast tokenizer, and where it fails to encode a text.
    """
    place, options = hub_id_or_folder("model", source.path), source.hub_options()
    other = source.tokenizer or _adapters_own(source)
    if other:
        place, options = hub_id_or_folder("tokenizer", other), {"trust_remote_code": source.trust_remote_code}
    elif source.gguf_file is not None:
        file = gguf_path(source)
        place, options = str(file.parent), {"gguf_file": str(file)}
    what = f"tokenizer of {other or source.path}"
    _check_files(place, options.get("revision"), what, reads_config="gguf_file" not in options)
    with as_input_error(f"{what}: cannot read its files"), without_panics():
        found = require_fast(AutoTokenizer.from_pretrained(place, **options), what)
        _refuse_far_ids(_by_id(found), what)
        found(PROBES[0])
        _parts(found)
    return found


def _check_added(file: Path, what: str) -> None:
    """Raise InputError where a tokenizer.json cannot be read, is no JSON object, or has an added id beyond LARGEST_ID.

    what: the file as the user named it; messages begin with it.
    """
    with reading(f"{what}: cannot read the file"):
        # Not json_value, which refuses a key that is there twice: older vocabularies give a token twice.
        found = json.loads(file_bytes(file, what, LARGEST))
        if not isinstance(found, dict):
            raise InputError(f"{what} must hold a JSON object, got {type(found).__name__}")
        _refuse_far_ids((token.get("id") for token in found.get("added_tokens") or []), what)


def _refuse_far_ids(ids: Iterable[Any], what: str) -> None:
    """Raise InputError, which begins with `what`, for a token id beyond LARGEST_ID.

    Values that are no whole numbers are ignored.

    The tokenizers library loops over every number below the largest id, so a huge id would keep it busy for very long.
    """
    far = next((token for token in ids if isinstance(token, int) and token > LARGEST_ID), None)
    if far is not None:
        raise InputError(f"{what}: it has a token of id {far:,}, and at most {LARGEST_ID:,} is allowed")


def _check_files(place: str, revision: str | None, what: str, reads_config: bool) -> None:
    """Raise InputError where a file of a tokenizer cannot be given to transformers.

    That is a git-lfs pointer, a file that is too large, a settings file or tokenizer.json that holds no JSON object,
    and a file that gives an added token an id beyond LARGEST_ID. Files that are missing or cannot be downloaded are
    skipped. place: folder or hub id. revision: of the hub id; None is the main branch. reads_config: whether
    transformers will read config.json beside the tokenizer, so that its counts and sizes, and whether it names other
    files, are checked too.
    """
    local = Path(place).is_dir()
    with as_input_error(what):
        revision = None if local else resolve_revision(place, revision)
        files = {
            name: Path(place, name) if local else optional_file(place, name, revision) for name in (*SETTINGS, *TABLES)
        }
    for name, file in files.items():
        if file is None or not file.exists():
            continue
        if name in TABLES:
            with reading(f"{what}: {name}: cannot read the file"):
                refuse_lfs_pointer(file, f"{what}: {name}")
                size = file.stat().st_size
            if size > LARGEST:
                raise InputError(f"{what}: {name} has {size:,} bytes, and at most {LARGEST:,} are read")
            if name == "tokenizer.json":
                _check_added(file, f"{what}: {name}")
            continue
        found = json_object(file, f"{what}: {name}", LARGEST_JSON if name == "config.json" else LARGEST)
        if name == "tokenizer_config.json" and isinstance(found.get("added_tokens_decoder"), dict):
            _refuse_far_ids(
                (int(key[:20]) for key in found["added_tokens_decoder"] if key[:20].isdecimal()), f"{what}: {name}"
            )
        if name == "added_tokens.json":
            _refuse_far_ids(found.values(), f"{what}: {name}")
        if name == "config.json" and reads_config:
            check_files_named(found, f"{what}: {name}")
            check_bounds(found, None, f"{what}: {name}")


def require_fast(tokenizer: PreTrainedTokenizerBase, what: str) -> PreTrainedTokenizerFast:
    """The same tokenizer; InputError where it is not a fast one, because only fast tokenizers give character offsets.

    what: the tokenizer as the user named it; the message begins with it.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"{what} ({type(tokenizer).__name__}) gives no character offsets; convert it to a fast one")
    return tokenizer


def digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 (hex) of everything that decides token ids: vocabulary, merges, added tokens, normalisation and so on.

    It does not cover the chat template, which decides no ids, nor truncation and padding, which a call can change.
    """
    return hashlib.sha256(json.dumps(_parts(tokenizer), sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def first_difference(base: PreTrainedTokenizerFast, tuned: PreTrainedTokenizerFast) -> str | None:
    """The first token on which two tokenizers differ, in words; None where no difference is found.

    Vocabularies are compared in the order of token ids. Added tokens of tuned whose ids base does not have do not count
    as a difference, as long as texts without them keep their ids. Whether a prompt holds such a token is checked when
    the prompt is encoded. If the vocabularies agree apart from such tokens but other parts of the tokenizers differ,
    the two tokenizers are compared by the ids that they give to PROBES and to the text of every token of base that is
    not white space alone. A text in which tuned finds a token whose id base does not have is left out.
    """
    tokens = _by_id(base), _by_id(tuned)
    added = set(tuned.all_special_tokens) | {t.content for t in tuned.added_tokens_decoder.values()}
    for token_id in sorted(tokens[0].keys() | tokens[1].keys()):
        first, second = (side.get(token_id) for side in tokens)
        if first != second and not (first is None and second in added):
            return f"token {token_id} is {first!r} in base and {second!r} in tuned"
    if _parts(base) == _parts(tuned):
        return None
    new = tokens[1].keys() - tokens[0].keys()
    texts = [*PROBES, *(text for text in base.batch_decode([[i] for i in tokens[0]]) if text.strip())]
    for text, *ids in zip(texts, base(texts)["input_ids"], tuned(texts)["input_ids"], strict=True):
        if ids[0] != ids[1] and new.isdisjoint(ids[1]):
            place = next(i for i, pair in enumerate(zip_longest(*ids)) if pair[0] != pair[1])
            named = [base.convert_ids_to_tokens(side[place : place + 1]) for side in ids]
            return f"in {text!r} token {place} is {named[0]} in base and {named[1]} in tuned"
    return None


def can_share_ids(base: PreTrainedTokenizerFast, tuned: PreTrainedTokenizerFast) -> bool:
    """Whether every id that is in both vocabularies is the same token in both.

    If so, base's token ids can be right for both models.
    """
    first, second = _by_id(base), _by_id(tuned)
    return all(first[token_id] == second[token_id] for token_id in first.keys() & second.keys())


def _adapters_own(source: ModelSource) -> str | None:
    """The adapter's hub id or folder, if it has a tokenizer_config.json; None where it has none or source no adapter.

    Raises InputError where the hub's cache lacks the file and the hub cannot be reached, refuses, or has no such
    repository.
    """
    if source.adapter is None:
        return None
    place = hub_id_or_folder("adapter", source.adapter)
    with as_input_error(f"adapter {source.adapter}"):
        found = cached_file(place, "tokenizer_config.json", _raise_exceptions_for_missing_entries=False)
    return source.adapter if found else None


def _by_id(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """A dict id -> token of the whole vocabulary, added tokens included."""
    return {token_id: token for token, token_id in tokenizer.get_vocab().items()}


def _parts(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Everything that decides a tokenizer's token ids, as a dict.

    It is the JSON object that tokenizer.json would hold, without its entries "truncation" and "padding".
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: part for name, part in parts.items() if name not in ("truncation", "padding")}
