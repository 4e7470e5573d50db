"""Training: one job a run and seed; a run that evaluates another run's adapter only takes it.

What a killed job resumes from lies in state/, undeclared.
"""


rule train_run:
    input:
        settings="<results>/runs/{run}/seed{seed}/run.yaml",
        data=plan.run_data,
        backbones=plan.run_backbones,
        features=plan.run_features,
        adapter=plan.run_adapter,
    output:
        weights="<results>/runs/{run}/seed{seed}/adapter/adapter.safetensors",
        adapter="<results>/runs/{run}/seed{seed}/adapter/adapter.json",
        metrics="<results>/runs/{run}/seed{seed}/metrics.csv",
        provenance="<results>/runs/{run}/seed{seed}/provenance.json",
    log:
        "<results>/logs/train_run/{run}_seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_run/{run}_seed{seed}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=plan.model_mem_mb,
        runtime=1440,
        gpu=plan.training_gpus,
        gpu_limit=plan.gpu_limit,
        launcher="",
    params:
        version=plan.versions["train"],
    shell:
        "exec {resources.launcher} ademvl train {input.settings} --threads {threads}"
        " --gpus {resources.gpu} --gpu-limit {resources.gpu_limit:q} 2> {log}"
