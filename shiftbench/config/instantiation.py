"""Building the objects that a part of the configuration describes by `_target_`."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig

from shiftbench.config.literals import instantiable
from shiftbench.errors import InputError
from shiftbench.readers import one_line


def instantiate(node: DictConfig) -> Any:
    """What a part of the configuration describes.

    Raises InputError where it names what is not there; an InputError of what is built comes out as itself, and not
    inside Hydra's exception.
    """
    try:
        return hydra_instantiate(instantiable(node), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        if "unexpected keyword" in str(error) or error.__cause__ is None or "locating target" in str(error):
            raise InputError(f"the configuration names what is not there: {one_line(error)}") from None
        raise
