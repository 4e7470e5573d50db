"""Data sets, each brought into the layout that all later stages read, and verified.

Studies share them: `update` keeps Snakemake from removing what another workflow has made meanwhile.
"""


rule dataset:
    input:
        plan.sources.of_dataset,
    output:
        update("<shared>/data/{dataset}/manifest.json"),
    log:
        "<results>/logs/dataset/{dataset}.log",
    benchmark:
        "<results>/benchmarks/dataset/{dataset}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
        gpu=0,
        started=plan.started,
    params:
        settings=plan.dataset_json,
        version=plan.versions["data"],
    shell:
        "ademvl data convert {params.settings:q} --output {output}"
        " --started {resources.started:q} 2> {log}"


rule verify_dataset:
    """Check every record and image; the full report, verification.json, stays when it fails."""
    input:
        "<shared>/data/{dataset}/manifest.json",
    output:
        update("<shared>/data/{dataset}/verified.json"),
    log:
        "<results>/logs/verify_dataset/{dataset}.log",
    benchmark:
        "<results>/benchmarks/verify_dataset/{dataset}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=0,
    params:
        version=plan.versions["verify"],
    shell:
        "ademvl data verify {input} --threads {threads} > {log} 2>&1"
