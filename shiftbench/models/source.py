"""ModelSource: where a model's files are and how to load them, with the checks that need no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shiftbench.errors import InputError
from shiftbench.readers import path_of

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class ModelSource:
    """A model to be loaded; conf/model/default.yaml states every default.

    path: hub id or folder. revision: of the repository that `path` names on the hub; None: its main branch. adapter:
    hub id or folder of a PEFT adapter to put on the model; None: no adapter. merge_adapter: whether the adapter is
    merged into the weights where adapter.attach can do so; if false, it is kept beside them. gguf_file: name of a GGUF
    file in `path`; None: safetensors. tokenizer: hub id or folder of a tokenizer to use instead of the adapter's or the
    model's own. dtype: of weights and computation, a key of DTYPES. device: auto, cpu, cuda or cuda:N. device_map:
    spreads the weights over several devices instead of `device`, as in transformers; a list of GPU numbers spreads them
    over these GPUs; None: `device` holds the whole model. trust_remote_code: whether code that comes with the model may
    run.
    """

    path: str
    revision: str | None
    adapter: str | None
    merge_adapter: bool
    gguf_file: str | None
    tokenizer: str | None
    dtype: str
    device: str
    device_map: str | dict[str, Any] | list[int] | None
    trust_remote_code: bool

    @property
    def name(self) -> str:
        """The model's name in messages and reports: its path, and the adapter's where it has an adapter."""
        return f"{self.path} + {self.adapter}" if self.adapter else self.path

    def hub_options(self) -> dict[str, Any]:
        """The keyword arguments revision, trust_remote_code and, for a GGUF file, gguf_file of from_pretrained."""
        gguf = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, **gguf}

    def torch_device(self) -> torch.device:
        """`device` as a torch device; auto is cuda where this machine has a GPU, else the CPU."""
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device)


def check_dtype_and_device(source: ModelSource) -> None:
    """Raise InputError for an unknown dtype or device, and for a CUDA device that this machine lacks."""
    if source.dtype not in DTYPES:
        raise InputError(f"dtype={source.dtype!r} is not known; choose from {', '.join(DTYPES)}")
    kind, colon, index = source.device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise InputError(f"device={source.device!r} is not known; choose from auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={source.device}: this machine has {torch.cuda.device_count()} CUDA devices")


def hub_id_or_folder(what: str, path: str) -> str:
    """The folder that `path` names, with `~` expanded; where there is no such folder, `path` unchanged, as a hub id.

    what: "model", "adapter" or "tokenizer", for messages. Raises InputError where `path` is a file or empty. Raises
    it also where there is no such folder and `path` cannot be a hub id: it begins with "." or "~", is absolute, or has
    a backslash or more than one slash.
    """
    folder = path_of(path, what)
    if path and folder.is_dir():
        return str(folder)
    if folder.is_file():
        raise InputError(f"{what} {path} is a file; give the folder that holds it, or a GGUF file")
    if not path or path.startswith((".", "~")) or folder.is_absolute() or path.count("/") > 1 or "\\" in path:
        raise InputError(f"{what} {path!r}: there is no such folder")
    return path


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds the configuration of a PEFT adapter and no weights of a whole model.

    Weights are model.safetensors, its index, and files whose names begin with pytorch_model. A config.json may be there
    too.
    """
    whole = [folder / "model.safetensors", folder / "model.safetensors.index.json", *folder.glob("pytorch_model*")]
    return (folder / ADAPTER_CONFIG).is_file() and not any(file.is_file() for file in whole)
