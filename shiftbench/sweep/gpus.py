"""GPUs of one machine, shared by the jobs of sweeps. A job holds a lock on each of its GPUs while it runs."""

from __future__ import annotations

import getpass
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from shiftbench.errors import InputError
from shiftbench.readers.numbers import check_whole
from shiftbench.system import locks

WAIT = 1.0  # seconds between looks for a free GPU; jobs hold theirs for minutes
BY_SLURM = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")  # set where Slurm itself gave this job GPUs that no other has


@contextmanager
def assigned(config: DictConfig, say: Callable[[str], None]) -> Iterator[DictConfig]:
    """Gives the block the job's configuration, set to GPUs that no other job in this user's sweeps uses meanwhile.

    The configuration's option `gpus` says how many; where it is more than 1, each model is spread over them
    (device_map). Where `device` is neither auto nor cuda, where Slurm gave the job its GPUs, and where torch sees no
    GPU, the block gets `config` itself, and `gpus` is not looked at. In all other cases, InputError is raised where
    `gpus` is less than 1 or more than the number of GPUs that torch sees. say: called with a line where the job has to
    wait.
    """
    import torch

    count = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    if not count or any(name in os.environ for name in BY_SLURM):
        yield config
        return
    with leased(config.gpus, visible(count), say) as mine:
        yield _on(config, mine)


def visible(count: int) -> list[str]:
    """The names of the GPUs that torch numbers 0 to count - 1, in that order.

    The names are those in CUDA_VISIBLE_DEVICES, where it lists at least `count` GPUs, and otherwise "0", "1" and so on.
    """
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]


@contextmanager
def leased(
    count: int, names: Sequence[str], say: Callable[[str], None], root: Path | None = None
) -> Iterator[list[int]]:
    """Gives the block the indices, in `names`, of `count` GPUs that no other process leases meanwhile.

    A lease ends with the block, or with the process. The call waits until `count` GPUs are free at the same time, so
    two jobs that need several GPUs never wait for each other. say: called once with a line where it has to wait. root:
    the folder of the locks; None: a folder of this user in the machine's temporary folder. Raises InputError where
    count is not between 1 and the number of names.
    """
    check_whole("gpus", count, None)
    if not 1 <= count <= len(names):
        raise InputError(f"gpus={count}: a job can take 1 to {len(names)} GPUs on this machine")
    root = root or Path(tempfile.gettempdir()) / f"shiftbench-gpus-{getpass.getuser()}"
    root.mkdir(exist_ok=True)
    waiting = False
    while True:
        with ExitStack() as stack:
            with locks.held(root / "choosing", wait=True):
                free = (i for i, name in enumerate(names) if stack.enter_context(locks.held(root / _file(name))))
                mine = list(islice(free, count))
            if len(mine) == count:
                yield mine
                return
        if not waiting:
            say(f"waiting for {count} of {len(names)} GPUs to be free")
        waiting = True
        time.sleep(WAIT)


def _on(config: DictConfig, devices: Sequence[int]) -> DictConfig:
    """A copy of the configuration in which both models are put on these devices, and `device` is the first of them.

    Where there are several devices, or where a model has a device_map, its device_map becomes the list of them: a job
    uses no GPU that it has not leased. devices: torch's numbers of the GPUs. A device_map of null stays where there is
    one device.
    """
    config = config.copy()
    config.device = f"cuda:{devices[0]}"
    for model in (config.pair.base_model, config.pair.tuned_model):
        if len(devices) > 1 or model.device_map is not None:
            OmegaConf.update(model, "device_map", list(devices))
        model.device = config.device
    return config


def _file(name: str) -> str:
    return "gpu-" + "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
