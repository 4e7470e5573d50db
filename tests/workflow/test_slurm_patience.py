"""Protects that a job is not forgotten while Slurm does not answer."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ademvl.workflow.slurm_patience import keep_unanswered_jobs


class Executor:
    """As the plugin's: reports what has ended, gives back what runs, loses what is unanswered."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.reported: list[str] = []

    async def check_active_jobs(self, active_jobs: list[str]) -> AsyncIterator[str]:
        for job in active_jobs:
            if self.answers.get(job) == "COMPLETED":
                self.report_job_success(job)
            elif self.answers.get(job) == "FAILED":
                self.report_job_error(job, msg="failed")
            elif job in self.answers:
                yield job

    def report_job_success(self, job: str) -> None:
        self.reported.append(f"{job} succeeded")

    def report_job_error(self, job: str, msg: str = "") -> None:
        self.reported.append(f"{job} {msg}")


def check(executor: Executor, jobs: list[str]) -> list[str]:
    async def collect() -> list[str]:
        return [job async for job in executor.check_active_jobs(jobs)]

    # In a thread of its own: where a test drives a browser, that thread's loop already runs.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(collect())).result()


def test_unanswered_jobs_stay_and_the_others_are_as_before() -> None:
    jobs = ["a", "b", "c", "d"]
    answers = {"a": "COMPLETED", "b": "FAILED", "c": "RUNNING"}
    assert check(Executor(answers), jobs) == ["c"]
    keep_unanswered_jobs(Executor)
    keep_unanswered_jobs(Executor)
    executor = Executor(answers)
    assert check(executor, jobs) == ["c", "d"]
    assert executor.reported == ["a succeeded", "b failed"]
    assert check(Executor({}), jobs) == jobs


def test_plugin_still_has_what_is_changed() -> None:
    plugin = pytest.importorskip(
        "snakemake_executor_plugin_slurm", reason="the extra `cluster` is missing"
    )
    for name in ("check_active_jobs", "report_job_success", "report_job_error"):
        assert callable(getattr(plugin.Executor, name))
