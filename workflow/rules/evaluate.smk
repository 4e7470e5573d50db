"""Evaluation: predictions of every question or image, and their scores with intervals.

What a killed job goes on from lies beside the predictions, undeclared; so do the headers that say what
these were made from. Outputs are not flagged `update`: Snakemake would put old ones back beside them.
"""


rule evaluate_run:
    input:
        settings=ancient("<results>/runs/{run}/seed{seed}/run.yaml"),
        relevant="<results>/runs/{run}/seed{seed}/settings/evaluate.json",
        data=plan.run_data,
        backbones=plan.run_backbones,
        weights="<results>/runs/{run}/seed{seed}/adapter/adapter.safetensors",
        adapter="<results>/runs/{run}/seed{seed}/adapter/adapter.json",
    output:
        predictions="<results>/runs/{run}/seed{seed}/predictions/{task}.jsonl",
        scores="<results>/runs/{run}/seed{seed}/scores/{task}.json",
    log:
        "<results>/logs/evaluate_run/{run}_seed{seed}_{task}.log",
    benchmark:
        "<results>/benchmarks/evaluate_run/{run}_seed{seed}_{task}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: plan.resources.threads
    resources:
        mem_mb=plan.resources.model_mem_mb,
        runtime=480,
        gpu=plan.resources.gpus,
        gpu_limit=plan.resources.gpu_limit,
    params:
        version=plan.versions["evaluate"],
    shell:
        "ademvl evaluate {input.settings} --threads {threads}"
        " --gpus {resources.gpu} --gpu-limit {resources.gpu_limit:q} 2> {log}"
