"""Trackers: a run's numbers, sent where others are, each through its own library, imported only where it is asked for.

Each library decides where the numbers go, by its own environment variables: a local store, or a server.
"""

from __future__ import annotations

import importlib
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from arena_jax.config import RunConfig, to_dict
from arena_jax.config.change import flat
from arena_jax.config.errors import ArenaError
from arena_jax.runs.histograms import Histogram

FILE = "trackers.json"
PROJECT = "arena-jax"  # unless the library's variable names another
_LONGEST = 500  # characters of a parameter; MLflow's stores have limits


Values = Mapping[str, float | Histogram]


class Tracker(Protocol):
    """A run as one library tracks it.

    Attributes:
        run: by which the library finds it again.
    """

    run: str

    def write(self, values: Values, step: int, at: float) -> None:
        """Send finite numbers and histograms by tag, of a step, at so many seconds since 1970."""

    def close(self) -> None:
        """Send what is left, and end."""


class _Trackio:
    def __init__(self, folder: Path, config: RunConfig, run: str | None) -> None:
        trackio = importlib.import_module("trackio")
        # A name of its own: trackio would lay two runs of one name over one another.
        self.run = run or f"{folder.name}-{uuid.uuid4().hex[:8]}"
        self._run: Any = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=self.run,
            config=flat(to_dict(config)),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, values: Values, step: int, at: float) -> None:
        self._run.log(_drawn(values, importlib.import_module("trackio")), step=step)

    def close(self) -> None:
        importlib.import_module("trackio").finish()


class _Wandb:
    def __init__(self, folder: Path, config: RunConfig, run: str | None) -> None:
        # Its files lie where WANDB_DIR says, and not in the run's folder, out of which its links would lead.
        wandb = importlib.import_module("wandb")
        self.run = run or uuid.uuid4().hex[:12]
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=self.run,
            resume="allow",
            config=to_dict(config),
            settings=wandb.Settings(console="off", silent=True),
        )

    def write(self, values: Values, step: int, at: float) -> None:
        self._run.log(_drawn(values, importlib.import_module("wandb")), step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, folder: Path, config: RunConfig, run: str | None) -> None:
        mlflow = importlib.import_module("mlflow")
        self._client: Any = mlflow.MlflowClient()
        self._entities: Any = importlib.import_module("mlflow.entities")
        if run is not None:
            self.run = run
            self._client.update_run(run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self.run = self._client.create_run(number, run_name=folder.name).info.run_id
        for name, value in flat(to_dict(config)).items():
            self._client.log_param(self.run, name, str(value)[:_LONGEST])

    def write(self, values: Values, step: int, at: float) -> None:
        numbers = {tag: value for tag, value in values.items() if not isinstance(value, Histogram)}  # it has no others
        metrics = [self._entities.Metric(tag, value, int(1000 * at), step) for tag, value in numbers.items()]
        self._client.log_batch(self.run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self.run)


_LIBRARIES: dict[str, Callable[[Path, RunConfig, str | None], Tracker]] = {
    "trackio": _Trackio,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}


class RunTracker:
    """One library's tracker of a run, continued where the run goes on, that stops no training.

    What is known of it stands in the run's folder: by which name it goes on, and which step of each number was sent
    last. A resumed run takes the steps after its checkpoint once more, to the bit: they are not sent twice.

    Args:
        name: of the library, which `config.training.TRACKERS` lists.
        folder: of the run.
        config: of the run.

    Attributes:
        trouble: why nothing is sent any more, or None.

    Raises:
        ArenaError: the library is not installed, or cannot begin.
    """

    def __init__(self, name: str, folder: Path, config: RunConfig) -> None:
        self._name, self._path = name, folder / FILE
        self.trouble: str | None = None
        earlier = self._read().get(name, {})
        self._sent: dict[str, int] = earlier.get("sent", {})
        try:
            self._tracker: Tracker | None = _LIBRARIES[name](folder, config, earlier.get("run"))
        except ModuleNotFoundError as error:
            raise ArenaError(
                f"training.track names {name}, and {error.name} is not installed: pip install {error.name}"
            ) from None
        except (Exception, SystemExit) as error:
            raise ArenaError(f"{name} cannot begin to track the run: {_reason(error)}") from None
        self._keep()

    def write(self, values: Values, step: int, at: float) -> None:
        """Send one number or histogram per tag, unless an earlier session has sent it.

        Args:
            values: ``{tag: finite number or histogram}``.
            step: updates taken so far.
            at: seconds since 1970.
        """
        news = {
            tag: value if isinstance(value, Histogram) else float(value)
            for tag, value in values.items()
            if step > self._sent.get(tag, -1)
        }
        if self._tracker is None or not news:
            return
        try:
            self._tracker.write(news, step, at)
            self._sent.update(dict.fromkeys(news, step))
            self._keep()
        except Exception as error:
            self._tracker = None
            self.trouble = f"{self._name} is no longer written to ({_reason(error)}); the records go on"

    def close(self) -> None:
        """Send what is left, and end."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            try:
                tracker.close()
            except Exception as error:
                self.trouble = f"{self._name} could not be ended ({_reason(error)})"

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ArenaError(f"cannot read {self._path}, which says how trackers go on: {error}") from None
        return content if isinstance(content, dict) else {}

    def _keep(self) -> None:
        assert self._tracker is not None
        content = {**self._read(), self._name: {"run": self._tracker.run, "sent": self._sent, "at": time.time()}}
        partial = self._path.with_name(f".{FILE}.{os.getpid()}")
        partial.write_text(json.dumps(content), encoding="utf-8")
        os.replace(partial, self._path)


def open_trackers(folder: Path, config: RunConfig) -> list[RunTracker]:
    """The trackers that a run's configuration names; where one cannot begin, those before it are closed again.

    Raises:
        ArenaError: see :class:`RunTracker`.
    """
    trackers: list[RunTracker] = []
    try:
        for name in (name for name in config.training.track if name != "tensorboard"):
            trackers.append(RunTracker(name, folder, config))
    except ArenaError:
        for tracker in trackers:
            tracker.close()
        raise
    return trackers


def _drawn(values: Values, library: Any) -> dict[str, Any]:
    """The values, histograms as the library has them."""
    return {
        tag: library.Histogram(np_histogram=(np.asarray(value.counts), value.edges))
        if isinstance(value, Histogram)
        else value
        for tag, value in values.items()
    }


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
