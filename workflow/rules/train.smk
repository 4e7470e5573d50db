"""Training: one job a run and seed; a run that evaluates another run's adapter only takes it.

What a killed job resumes from lies in state/, undeclared. Outputs stay until the verb itself finds
that they are of other settings: a finished training is never thrown away.
"""


rule choose_rate:
    """The learning rate of a run with optimization.lr_grid: each is trained, scored on val.

    Their trainings lie in rates/{run}/, undeclared: a killed job goes on there.
    """
    input:
        relevant="<results>/rates/{run}/grid.json",
        data=plan.run_data,
        backbones=plan.run_backbones,
        features=ancient(plan.features.of_run),
        start=plan.run_start,
    output:
        "<results>/rates/{run}.json",
    log:
        "<results>/logs/choose_rate/{run}.log",
    benchmark:
        "<results>/benchmarks/choose_rate/{run}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: plan.resources.threads
    resources:
        mem_mb=plan.resources.model_mem_mb,
        runtime=1440,
        gpu=plan.resources.gpus,
        gpu_limit=plan.resources.gpu_limit,
    params:
        settings=plan.rates.grid_json,
        folder=plan.rates.folder,
    shell:
        "exec ademvl choose-rate {params.settings:q} --folder {params.folder:q}"
        " --output {output} --threads {threads} --gpus {resources.gpu}"
        " --gpu-limit {resources.gpu_limit:q} 2> {log}"


rule train_run:
    input:
        settings=ancient("<results>/runs/{run}/seed{seed}/run.yaml"),
        relevant="<results>/runs/{run}/seed{seed}/settings/train.json",
        data=plan.run_data,
        backbones=plan.run_backbones,
        features=ancient(plan.features.of_run),
        adapter=plan.run_adapter,
        start=plan.run_start,
    output:
        weights=update("<results>/runs/{run}/seed{seed}/adapter/adapter.safetensors"),
        adapter=update("<results>/runs/{run}/seed{seed}/adapter/adapter.json"),
        metrics=update("<results>/runs/{run}/seed{seed}/metrics.csv"),
        provenance=update("<results>/runs/{run}/seed{seed}/provenance.json"),
    log:
        "<results>/logs/train_run/{run}_seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_run/{run}_seed{seed}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: plan.resources.training_threads
    resources:
        mem_mb=plan.resources.model_mem_mb,
        runtime=1440,
        gpu=plan.resources.training_gpus,
        gpu_limit=plan.resources.gpu_limit,
        launcher="",
    params:
        version=plan.versions["train"],
    shell:
        "exec {resources.launcher} ademvl train {input.settings} --threads {threads}"
        " --gpus {resources.gpu} --gpu-limit {resources.gpu_limit:q} 2> {log}"
