"""A tiny random model of each architecture, loaded as a user's would be."""

import pytest
import torch

from shiftbench.models import wrap
from tests.tiny import ARCHITECTURES, tiny_module, tiny_tokenizer


@pytest.fixture(params=ARCHITECTURES)
def any_model(request):
    with wrap(tiny_module(request.param), tiny_tokenizer()) as model:
        yield model


@pytest.fixture
def llama():
    with wrap(tiny_module("llama"), tiny_tokenizer()) as model:
        yield model


@pytest.fixture
def llama64():
    with wrap(tiny_module("llama").to(torch.float64), tiny_tokenizer()) as model:
        yield model
