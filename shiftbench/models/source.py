"""ModelSource: where a model's parts are and how to load them, and what can be refused by looking at that alone."""

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
    """What is to be loaded; conf/model/default.yaml states every default.

    path: hub id or folder. revision: of that hub id. adapter: PEFT adapter on it, hub id or folder; merge_adapter: add
    it into the weights, or keep it beside them. gguf_file: its name in path. tokenizer: another place to take it from.
    dtype: of weights and computation. device: auto, cpu, cuda, cuda:N; device_map: spread over devices, or over the
    GPUs of a list, instead.
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
        """How messages and reports call the model."""
        return f"{self.path} + {self.adapter}" if self.adapter else self.path

    def hub_options(self) -> dict[str, Any]:
        """What transformers needs to find any file of the model."""
        gguf = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, **gguf}

    def torch_device(self) -> torch.device:
        """The device that `device` means on this machine."""
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device)


def check_dtype_and_device(source: ModelSource) -> None:
    """Refuse a dtype or a device that is not there."""
    if source.dtype not in DTYPES:
        raise InputError(f"dtype={source.dtype!r} is not known; choose from {', '.join(DTYPES)}")
    kind, _, index = source.device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise InputError(f"device={source.device!r} is not known; choose from auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={source.device}: this machine has {torch.cuda.device_count()} CUDA devices")


def hub_id_or_folder(what: str, path: str) -> str:
    """A hub id as it is, or the folder that a path means; InputError where it looks like a path and is no folder."""
    folder = path_of(path, what)
    if path and folder.is_dir():
        return str(folder)
    if folder.is_file():
        raise InputError(f"{what} {path} is a file; give the folder it is in, or a GGUF file")
    if not path or path.startswith((".", "~")) or folder.is_absolute() or path.count("/") > 1 or "\\" in path:
        raise InputError(f"{what} {path!r}: there is no such folder")
    return path


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no weights of a whole model; a config.json may lie beside it."""
    whole = [folder / "model.safetensors", folder / "model.safetensors.index.json", *folder.glob("pytorch_model*")]
    return (folder / ADAPTER_CONFIG).is_file() and not any(file.is_file() for file in whole)
