"""Running a sweep's jobs with a Hydra launcher: in this process, with joblib on this machine, or through submitit."""

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

EXTRAS = {"joblib": "joblib", "submitit": "cluster"}  # first letters of a launcher's name -> the extra that installs it


def launch(
    settings: Sequence[str], folder: Path, job: Callable[[DictConfig], None], overrides: Sequence[Sequence[str]]
) -> None:
    """Call `job` once for each list of overrides, in this process or in those that Hydra's launcher starts.

    settings: the overrides that choose the launcher (hydra/launcher=NAME) and set its options. folder: where the
    launcher keeps its own files, such as pickles and logs. job: gets the configuration of one job; hydra.job.num is the
    index of the job in `overrides`. Overrides of tracking are not passed on, because a URI may hold a password and the
    launcher writes overrides into its files. Raises InputError where `check` does, and what the launcher raises where a
    worker process died.
    """
    with _initialised_hydra(settings, folder) as config:
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, job, config)
        without_tracking = [[text for text in texts if not _is_tracking_override(text)] for texts in overrides]
        launcher.launch(without_tracking, initial_job_idx=0)


def check(settings: Sequence[str], folder: Path) -> DictConfig:
    """The options of the launcher that `settings` choose, with their values.

    Raises InputError where `settings` do not compose, as where there is no such launcher, its package is not installed,
    or it lacks one of the options. folder: as of `launch`.
    """
    with _initialised_hydra(settings, folder) as config:
        plain = OmegaConf.to_container(config.hydra.launcher)
    return OmegaConf.create(plain)  # type: ignore[return-value]


def runs_in_this_process(settings: Sequence[str]) -> bool:
    """Whether the launcher that `settings` choose runs the jobs in this process, one after the other.

    This is the launcher basic, which is also the one where none is chosen.
    """
    named = [text.partition("=")[2] for text in settings if text.startswith("hydra/launcher=")]
    return not named or named[-1] == "basic"


@contextmanager
def _initialised_hydra(settings: Sequence[str], folder: Path) -> Iterator[DictConfig]:
    """Gives the block a configuration with the launcher's options in its node `hydra`, and Hydra ready for launchers.

    settings, folder: as of `launch`. Raises InputError where `settings` do not compose.
    """
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    GlobalHydra.instance().clear()  # an earlier launcher that still waits for a dead worker has left Hydra initialised
    with initialize_config_module(CONFIG_MODULE, job_name="shiftbench", version_base="1.3"):
        try:
            config = (
                GlobalHydra.instance()
                .config_loader()
                .load_configuration("config", [*settings, f"hydra.sweep.dir='{quoted}'"], run_mode=RunMode.MULTIRUN)
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(_describe_config_error(error, settings)) from None
        yield config


def _describe_config_error(error: Exception, settings: Sequence[str]) -> str:
    wanted = next((text.partition("=")[2] for text in settings if text.startswith("hydra/launcher=")), "")
    extra = next((extra for start, extra in EXTRAS.items() if wanted.startswith(start)), None)
    if isinstance(error, MissingConfigException) and extra:
        return f"hydra/launcher={wanted} needs a package that is not installed: pip install 'shiftbench[{extra}]'"
    if isinstance(error, MissingConfigException):
        return f"there is no hydra/launcher={wanted}; choose from basic, joblib, submitit_local, submitit_slurm"
    reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"{' '.join(settings)}: {reason}"


def _is_tracking_override(text: str) -> bool:
    return text.lstrip("+~").split("=")[0].split(".")[0] == "tracking"
