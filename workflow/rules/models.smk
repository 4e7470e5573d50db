"""The mini backbones, trained again from the train split; the default studies use the shipped ones.

snakemake --cores all mini_backbones
"""


rule mini_backbones:
    """Train the shipped mini backbones anew (an hour or two), into <results>/mini_backbones."""
    input:
        data=plan.data_manifests(),
    output:
        llm="<results>/mini_backbones/mini_llm/RECIPE.json",
        clip="<results>/mini_backbones/mini_clip/RECIPE.json",
    log:
        "<results>/logs/mini_backbones.log",
    benchmark:
        "<results>/benchmarks/mini_backbones.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 2
    resources:
        mem_mb=3000,
        runtime=300,
        gpu=0,
    params:
        version=plan.versions["mini_backbones"],
    shell:
        "ademvl backbones mini --data {input.data} --threads {threads}"
        " --llm {output.llm} --clip {output.clip} 2> {log}"
