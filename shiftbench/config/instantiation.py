"""Builds the objects that parts of a configuration describe: `_target_` names the class, the other keys its fields."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig

from shiftbench.config.literals import instantiable
from shiftbench.errors import InputError
from shiftbench.readers import one_line


def instantiate(node: DictConfig) -> Any:
    """The object that a part of a resolved configuration describes.

    A part without `_target_` gives a dict or a list, with objects in the place of the parts that have one; null gives
    None. Raises InputError where there is no such class, or where the class has no such option. An InputError that the
    class raises is passed on as it is, and not inside Hydra's exception.
    """
    try:
        return hydra_instantiate(instantiable(node), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        if "unexpected keyword" in str(error) or error.__cause__ is None or "locating target" in str(error):
            raise InputError(
                f"the configuration names a class or an option that does not exist: {one_line(error)}"
            ) from None
        raise
