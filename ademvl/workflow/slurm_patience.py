"""Keeps Snakemake from forgetting jobs while Slurm's controller does not answer.

In snakemake-executor-plugin-slurm 2.8.0, a round of questions that all fail ends with no job: those
it asked for are neither reported nor looked at again, and Snakemake waits for them for ever. Here
such jobs stay on its list until Slurm answers.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any


def keep_unanswered_jobs(executor_class: type) -> None:
    """Let an executor's `check_active_jobs` give back every job on which it says nothing.

    Args:
        executor_class: of the plugin; changed in place, once.
    """
    check: Callable[..., AsyncIterator[Any]] = executor_class.check_active_jobs  # type: ignore[attr-defined]
    if hasattr(check, "keeps_unanswered"):
        return

    async def check_and_keep(executor: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        answered: list[Any] = []
        before = executor.report_job_success, executor.report_job_error
        executor.report_job_success = _noting(before[0], answered)
        executor.report_job_error = _noting(before[1], answered)
        try:
            async for job in check(executor, active_jobs):
                answered.append(job)
                yield job
        finally:
            executor.report_job_success, executor.report_job_error = before
        for job in active_jobs:
            if not any(job is other for other in answered):
                yield job

    check_and_keep.keeps_unanswered = True  # type: ignore[attr-defined]
    executor_class.check_active_jobs = check_and_keep  # type: ignore[attr-defined]


def _noting(report: Callable[..., None], answered: list[Any]) -> Callable[..., None]:
    def note(job: Any, *arguments: Any, **keywords: Any) -> None:
        answered.append(job)
        report(job, *arguments, **keywords)

    return note
