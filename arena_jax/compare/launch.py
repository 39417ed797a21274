"""Shares of a study as jobs of a scheduler, through submitit: Slurm, or processes of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.compare.cells import Share
from arena_jax.compare.engine import all_cells, run_cells
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.plan_file import read_plan
from arena_jax.config.errors import ArenaError

LAUNCHERS = ("slurm", "local")


def run_share(plan: str, folder: str, number: int, shares: int) -> str:
    """Run one share, in a job's process.

    Args:
        plan: its file.
        folder: of the study.
        number: of the share, from 1.
        shares: how many there are.

    Returns:
        What is left of the study, in words.
    """
    content = read_plan(plan)
    return run_cells(content, Ledger(Path(folder)), all_cells(content), share=Share(number, shares)).text()


def launch(plan: Path, folder: Path, shares: int, launcher: str, options: Mapping[str, Any]) -> list[Any]:
    """Submit a study in shares.

    Args:
        plan: a TOML file that all machines see.
        folder: of the study, that all machines see. What jobs print lies beside it, in ``FOLDER-jobs``.
        shares: jobs at most.
        launcher: "slurm", or "local" for processes of this machine.
        options: of submitit's `AutoExecutor`, such as ``timeout_min`` or ``slurm_partition``.

    Returns:
        submitit's jobs. Where arms are tuned there are two of each share: the final runs wait for all trials.

    Raises:
        ArenaError: submitit is not installed, or knows no such option.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise ArenaError("--launcher needs submitit: pip install 'arena-jax[launch]'") from None
    count = min(shares, len(all_cells(read_plan(plan))))
    jobs: list[Any] = []
    for phase in range(2 if read_plan(plan).tuning else 1):
        try:
            executor = submitit.AutoExecutor(folder=f"{folder}-jobs", cluster=launcher)
            executor.update_parameters(name=f"compare-{plan.stem}", **options)
            if phase and launcher == "slurm":
                earlier = ":".join(dict.fromkeys(job.job_id.split("_")[0] for job in jobs))
                executor.update_parameters(slurm_additional_parameters={"dependency": f"afterany:{earlier}"})
        except (NameError, TypeError, ValueError, RuntimeError, FileNotFoundError) as error:
            raise ArenaError(f"submitit refuses this: {error}") from None
        if phase and launcher == "local":
            for job in jobs:
                job.wait()
        numbers = range(1, count + 1)
        words = [str(plan.resolve())] * count, [str(folder.resolve())] * count, list(numbers), [count] * count
        jobs += executor.map_array(run_share, *words)
    return jobs
