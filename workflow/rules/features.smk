"""Image features of a frozen tower, into the content-addressed cache under <shared>/features.

The cache itself is no declared output: studies share it, and Snakemake must never delete it. The
report says what it holds for a run; training checks the features again and repairs what is damaged.
"""


rule feature_cache:
    input:
        settings=ancient(plan.feature_run_settings),
        relevant=plan.features.relevant_settings,
        data=plan.feature_data,
        backbones=plan.feature_backbones,
    output:
        "<results>/features/{features}.json",
    log:
        "<results>/logs/feature_cache/{features}.log",
    benchmark:
        "<results>/benchmarks/feature_cache/{features}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: plan.resources.feature_threads
    resources:
        mem_mb=plan.resources.feature_mem_mb,
        runtime=240,
        gpu=plan.resources.feature_gpus,
        gpu_limit=plan.resources.gpu_limit,
    params:
        version=plan.versions["features"],
    shell:
        "ademvl features {input.settings} --threads {threads} --output {output}"
        " --gpus {resources.gpu} --gpu-limit {resources.gpu_limit:q} 2> {log}"
