"""Data sets, each converted into the layout that all later stages read."""


rule dataset:
    output:
        "<shared>/data/{dataset}/manifest.json",
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
    params:
        settings=plan.dataset_json,
        version=plan.versions["data"],
    shell:
        "ademvl data convert {params.settings:q} --output {output} 2> {log}"
