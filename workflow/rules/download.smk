"""Data and weights from elsewhere: fetched, verified, unpacked, once for all studies.

What has arrived of a file, and what is unpacked already, is no declared output: a killed job goes
on from there. The markers say that a source is complete. Downloads run where Snakemake runs: machines
of a cluster's jobs often reach nothing outside.
"""


localrules:
    download,


rule download:
    """One source, verified: <shared>/downloads/{source}."""
    input:
        study=ancient("<results>/study.yaml"),
    output:
        update("<shared>/downloads/{source}/complete.json"),
    log:
        "<results>/logs/download/{source}.log",
    benchmark:
        "<results>/benchmarks/download/{source}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=1440,
        gpu=0,
    params:
        source=plan.sources.source_json,
        version=plan.versions["download"],
    shell:
        "ademvl data fetch --study {input.study} --source {wildcards.source}"
        " --download-only 2> {log}"


rule unpack:
    """The archives of one source, unpacked: <shared>/unpacked/{source}."""
    input:
        study=ancient("<results>/study.yaml"),
        downloaded="<shared>/downloads/{source}/complete.json",
    output:
        update("<shared>/unpacked/{source}/.complete.json"),
    log:
        "<results>/logs/unpack/{source}.log",
    benchmark:
        "<results>/benchmarks/unpack/{source}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=480,
        gpu=0,
    params:
        archives=plan.sources.archives_json,
        version=plan.versions["unpack"],
    shell:
        "ademvl data fetch --study {input.study} --source {wildcards.source} 2> {log}"
