"""Evaluation: predictions of every question or image, and their scores with intervals.

As in training, outputs stay until the verb itself finds that they are of something else.
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
        predictions=update("<results>/runs/{run}/seed{seed}/predictions/{task}.jsonl"),
        scores=update("<results>/runs/{run}/seed{seed}/scores/{task}.json"),
    log:
        "<results>/logs/evaluate_run/{run}_seed{seed}_{task}.log",
    benchmark:
        "<results>/benchmarks/evaluate_run/{run}_seed{seed}_{task}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: plan.threads
    resources:
        mem_mb=plan.model_mem_mb,
        runtime=480,
        gpu=plan.gpus,
        gpu_limit=plan.gpu_limit,
    params:
        version=plan.versions["evaluate"],
    shell:
        "ademvl evaluate {input.settings} --threads {threads}"
        " --gpus {resources.gpu} --gpu-limit {resources.gpu_limit:q} 2> {log}"
