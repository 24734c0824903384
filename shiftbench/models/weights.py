"""A model's weights as named tensors that are read one at a time, without building the model."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from functools import cached_property

from safetensors import safe_open
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.models.model import tensor_digest
from shiftbench.models.parts import parts_of
from shiftbench.models.source import ModelSource
from shiftbench.models.weight_files import unused
from shiftbench.readers import reading


class Weights(ABC):
    """Named tensors of one model. name: the model's name, for messages. names: the names of the tensors, sorted."""

    name: str
    names: tuple[str, ...]

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 (hex) that identifies the weights."""

    @abstractmethod
    def tensor(self, name: str) -> Tensor:
        """One tensor, on the CPU, in its stored dtype. Raises InputError where there is none of this name."""


class FileWeights(Weights):
    """The weights in a model's safetensors files. Tensors that no forward pass needs, such as old masks, are left out.

    Construction downloads the files where the hub's cache lacks them. It raises InputError as `models.check` does where
    the files cannot be read, and for a GGUF file or an adapter: no safetensors file then holds the weights that the
    model computes with.
    """

    def __init__(self, source: ModelSource) -> None:
        self.name = source.name
        check_weight_files(source)
        files = parts_of(source, download=True).weights
        if files is None:
            raise InputError(f"model {source.name}: its weight files are not on this machine and cannot be downloaded")
        only = next(iter(files.files))
        self._files = files
        self._file_of = {
            name: (files.shard_of or {}).get(name, only) for name, t in files.tensors.items() if not unused(t)
        }
        self.names = tuple(sorted(self._file_of))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the names, dtypes, shapes and bytes of the tensors as they are stored.

        It is not the same as Model.weights_digest, which covers the weights as loaded, in the dtype of the computation,
        and also the configuration.
        """
        named = [[name, tensor_digest(self.tensor(name))] for name in self.names]
        return hashlib.sha256(json.dumps(["weight files", named]).encode()).hexdigest()

    def tensor(self, name: str) -> Tensor:
        if name not in self._file_of:
            raise InputError(f"model {self.name}: its files hold no weight {name!r}")
        file = self._files.files[self._file_of[name]]
        with reading(f"model {self.name}: cannot read weight {name!r} in {file.name}"):
            with safe_open(str(file), framework="pt") as opened:
                found: Tensor = opened.get_tensor(name)
        return found


def check_weight_files(source: ModelSource) -> None:
    """Raise InputError where a model has a GGUF file or an adapter.

    The weights that such a model computes with are not in safetensors files.
    """
    if source.gguf_file is not None:
        raise InputError(
            f"model {source.name}: weights are read tensor by tensor from safetensors files, not from GGUF"
        )
    if source.adapter is not None:
        raise InputError(
            f"model {source.name}: with an adapter the model's weights are in no file; merge the "
            "adapter, save the model with save_pretrained, and give that folder"
        )
