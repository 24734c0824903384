"""The Hydra launcher that runs a sweep's jobs: in this process, by joblib on this machine, or by submitit on Slurm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shiftbench.config.composition import CONFIG_MODULE
from shiftbench.errors import InputError

EXTRAS = {"joblib": "joblib", "submitit": "cluster"}  # how the name of a launcher begins, and the extra it is in


def launch(
    settings: Sequence[str], folder: Path, job: Callable[[DictConfig], None], overrides: Sequence[Sequence[str]]
) -> None:
    """Call job once for each list of overrides, by the launcher that settings (hydra/launcher=..., its options) name.

    A job finds its place in the list as hydra.job.num. folder: of the launcher's own files, pickles and logs, which
    get no override of tracking to hold: a URI may have a password in it. Raises whatever a launcher raises where a
    worker died.
    """
    with _composed(settings, folder) as config:
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, job, config)
        launcher.launch([[text for text in texts if not _of_tracking(text)] for texts in overrides], initial_job_idx=0)


def check(settings: Sequence[str], folder: Path) -> DictConfig:
    """The launcher's own configuration; InputError where it is not installed or has no such option."""
    with _composed(settings, folder) as config:
        plain = OmegaConf.to_container(config.hydra.launcher)
    return OmegaConf.create(plain)  # type: ignore[arg-type, return-value]


def is_here(settings: Sequence[str]) -> bool:
    """Whether the jobs run in this process, one after the other."""
    named = [text.partition("=")[2] for text in settings if text.startswith("hydra/launcher=")]
    return not named or named[-1] == "basic"


@contextmanager
def _composed(settings: Sequence[str], folder: Path) -> Iterator[DictConfig]:
    """The sweep's configuration as launchers want it, inside an initialised Hydra."""
    place = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    GlobalHydra.instance().clear()  # a launcher that still waits for a worker that died has left its own there
    with initialize_config_module(CONFIG_MODULE, job_name="shiftbench", version_base="1.3"):
        try:
            config = (
                GlobalHydra.instance()
                .config_loader()
                .load_configuration("config", [*settings, f"hydra.sweep.dir='{place}'"], run_mode=RunMode.MULTIRUN)
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(_explained(error, settings)) from None
        yield config


def _explained(error: Exception, settings: Sequence[str]) -> str:
    wanted = next((text.partition("=")[2] for text in settings if text.startswith("hydra/launcher=")), "")
    extra = next((extra for start, extra in EXTRAS.items() if wanted.startswith(start)), None)
    if isinstance(error, MissingConfigException) and extra:
        return f"hydra/launcher={wanted} needs a package that is not installed: pip install 'shiftbench[{extra}]'"
    if isinstance(error, MissingConfigException):
        return f"there is no hydra/launcher={wanted}; choose from basic, joblib, submitit_local, submitit_slurm"
    reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"{' '.join(settings)}: {reason}"


def _of_tracking(text: str) -> bool:
    return text.lstrip("+~").split("=")[0].split(".")[0] == "tracking"
