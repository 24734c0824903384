"""Models: loading them, what identifies them, and where the weights of each architecture are.

source.py         ModelSource: where a model's files are and how to load them
loading.py        load: from a ModelSource to a Model; wrap: a module that the caller loaded, as a Model
model.py          Model: module, tokenizer, weight views, and the digests that identify weights and tokenizer
pairs.py          Pair: base and tuned model; whether the two can be compared; loading each when it is needed
parts.py          finds and checks the files of a model, in a folder or on the Hugging Face hub
declared.py       checks the sizes that a configuration declares before anything is built from them
weight_files.py   which safetensors and GGUF files may be opened, checked before transformers is called
weights.py        weights as named tensors, read one at a time without building the model
adapter.py        PEFT adapters: whether one fits its base, merging it or keeping it beside the weights
tokenizer.py      loading a tokenizer, its digest, and the first difference between two tokenizers
hub.py            files on the hub; silences transformers' output and turns its failures into an InputError
views.py          WeightViews: the weight matrices that the explainers need, one interface for all architectures
llama.py, gpt2.py  the views of one family of architectures each, registered in ARCHITECTURES
block.py          Transformer: a model written down as data, which the engine differentiates
rotary.py         rotary embeddings whose angles depend on the text's length
state.py          ModuleState: restores what using a caller's module changed in it
finite.py         the error for NaN and inf, which names a dtype to use instead if there is one
"""

from shiftbench.models.loading import ModelShape, check, load, shape_of, wrap
from shiftbench.models.model import Model
from shiftbench.models.source import ModelSource
from shiftbench.models.views import WeightViews

__all__ = ["Model", "ModelShape", "ModelSource", "WeightViews", "check", "load", "shape_of", "wrap"]
