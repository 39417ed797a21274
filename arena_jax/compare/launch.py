"""Shares of a plan's cells as jobs: of Slurm, or processes of this machine; submitit submits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_jax.compare.cells import Share
from arena_jax.compare.engine import all_cells, run_cells
from arena_jax.compare.identity import identity
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.plan import Plan
from arena_jax.compare.plan_file import plan_from, plan_to_dict
from arena_jax.config.errors import ArenaError, first_line

LAUNCHERS = ("slurm", "local")
_JOBS = "jobs"  # submitit's folder in a study's: what it submits, and what jobs print


@dataclass(frozen=True)
class ShareOfPlan:
    """What one job does; it is pickled, so it holds nothing but data.

    Attributes:
        plan: as dictionaries.
        folder: of the study.
        share: of its cells.
        keep_runs: leave the runs' folders in it.
    """

    plan: Mapping[str, Any]
    folder: str
    share: Share
    keep_runs: bool

    def __call__(self) -> str:
        """Run the share; what is left, in words."""
        plan = plan_from(dict(self.plan))
        cells = all_cells(plan)
        progress = run_cells(
            plan, Ledger(Path(self.folder)), cells, share=self.share, keep_runs=self.keep_runs, show=_show
        )
        return progress.text()

    def checkpoint(self) -> Any:
        """What submitit queues again where a job's time is over: the same, as cells that are over stay so."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _show(line: str) -> None:
    print(f"… {line}", flush=True)


def launch(
    plan: Plan,
    ledger: Ledger,
    launcher: str,
    jobs: int,
    *,
    settings: Mapping[str, Any] | None = None,
    keep_runs: bool = False,
) -> list[Any]:
    """Submit the shares of a plan; with tuning twice, as final runs wait for the trials of every share.

    Args:
        plan: of the study.
        ledger: its folder, which every job has to see.
        launcher: of `LAUNCHERS`. "local" waits until all jobs have ended, "slurm" for none.
        jobs: how many, each with a share.
        settings: of submitit's executor, such as ``{"timeout_min": 240, "slurm_partition": "gpu"}``.
        keep_runs: leave the runs' folders in the ledger's ``work``.

    Returns:
        submitit's jobs.

    Raises:
        ArenaError: there is no such launcher, a setting that submitit does not know, or a job that failed.
    """
    import submitit

    ledger.freeze(plan_to_dict(plan), identity(plan))
    try:
        executor = submitit.AutoExecutor(ledger.folder / _JOBS, cluster=launcher)
        executor.update_parameters(**{"name": f"arena-{plan.name}", "timeout_min": 240, **(settings or {})})
    except (RuntimeError, TypeError, ValueError, NameError, AssertionError) as error:
        raise ArenaError(f"submitit cannot submit to {launcher}: {first_line(error)}") from None
    shares = [
        ShareOfPlan(plan_to_dict(plan), str(ledger.folder.resolve()), Share(number, jobs), keep_runs)
        for number in range(1, jobs + 1)
    ]
    submitted = _submit(executor, shares, launcher)
    if plan.tuning is not None:
        if launcher == "slurm":
            array = submitted[0].job_id.partition("_")[0]
            executor.update_parameters(slurm_additional_parameters={"dependency": f"afterany:{array}"})
        submitted += _submit(executor, shares, launcher)
    return submitted


def _submit(executor: Any, shares: Sequence[ShareOfPlan], launcher: str) -> list[Any]:
    with executor.batch():
        jobs = [executor.submit(share) for share in shares]
    for job in jobs if launcher == "local" else ():
        error = job.exception()
        if error is not None:
            # A job's own traceback ends with what went wrong.
            reason = str(error).strip().splitlines()[-1]
            raise ArenaError(f"job {job.job_id} failed ({reason}); it printed '{job.paths.stderr}'")
    return list(jobs)


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` for submitit; whole numbers are numbers.

    Raises:
        ArenaError: one is not written so.

    Example:
        >>> read_settings(["timeout_min=60", "slurm_partition=gpu"])
        {'timeout_min': 60, 'slurm_partition': 'gpu'}
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.isidentifier()):
            raise ArenaError(f"--job-option is '{text}': write NAME=VALUE, e.g. slurm_partition=gpu")
        settings[name] = int(value) if value.isascii() and value.isdigit() else value
    return settings
