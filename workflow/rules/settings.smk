"""Settings as files: a job reruns exactly when the settings that its results depend on change.

A verb reads all of a run's settings from run.yaml, which counts as `ancient`; what reruns its job is
settings/<verb>.json, with those that matter to it alone.
"""


localrules:
    study_settings,
    rate_settings,
    grid_settings,
    run_settings,
    relevant_settings,


rule study_settings:
    """All runs of a study, which can be more than Linux lets one shell argument hold (128 KiB).

    No `run:`, for which Snakemake starts itself by a shell line that the project's path stands in.
    """
    output:
        "<results>/study.yaml",
    log:
        "<results>/logs/study_settings.log",
    benchmark:
        "<results>/benchmarks/study_settings.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
        gpu=0,
    params:
        settings=plan.study_json,
        version=plan.versions["settings"],
    script:
        "../scripts/study_settings.py"


rule rate_settings:
    """A run as its features need it, before its rate is chosen."""
    output:
        "<results>/rates/{run}/run.yaml",
    log:
        "<results>/logs/rate_settings/{run}.log",
    benchmark:
        "<results>/benchmarks/rate_settings/{run}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
        gpu=0,
    params:
        settings=plan.rates.first_json,
        version=plan.versions["settings"],
    shell:
        "ademvl settings {params.settings:q} --output {output} 2> {log}"


rule grid_settings:
    """What the choice of a run's rate depends on.

    A file, as Snakemake overlooks changed params of jobs behind an `ancient` input that is made anew.
    """
    output:
        "<results>/rates/{run}/grid.json",
    log:
        "<results>/logs/grid_settings/{run}.log",
    benchmark:
        "<results>/benchmarks/grid_settings/{run}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
        gpu=0,
    params:
        settings=plan.rates.grid_json,
        version=[plan.versions["train"], plan.versions["evaluate"]],
    shell:
        "printf '%s\\n' {params.settings:q} > {output} 2> {log}"


rule run_settings:
    input:
        plan.rates.choice,
    output:
        "<results>/runs/{run}/seed{seed}/run.yaml",
    log:
        "<results>/logs/run_settings/{run}_seed{seed}.log",
    benchmark:
        "<results>/benchmarks/run_settings/{run}_seed{seed}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
        gpu=0,
    params:
        settings=plan.run_json,
        version=plan.versions["settings"],
    shell:
        "ademvl settings {params.settings:q} {input:q} --output {output} 2> {log}"


rule relevant_settings:
    input:
        plan.rates.choice_of_verb,
    output:
        "<results>/runs/{run}/seed{seed}/settings/{verb}.json",
    log:
        "<results>/logs/relevant_settings/{run}_seed{seed}_{verb}.log",
    benchmark:
        "<results>/benchmarks/relevant_settings/{run}_seed{seed}_{verb}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
        gpu=0,
    params:
        settings=plan.relevant_json,
        version=plan.versions["settings"],
    shell:
        "printf '%s\\n' {params.settings:q} > {output} 2> {log}"
