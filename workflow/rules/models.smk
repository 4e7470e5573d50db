"""Frozen models: Meta's releases converted, and the mini backbones trained again.

The default studies use the shipped mini backbones; `snakemake --cores all mini_backbones` makes
them anew from the train split.
"""


rule convert_backbone:
    """A language model in the layout of Meta's releases, once for all studies.

    The weights are no declared output: a killed job goes on behind the last part that it wrote.
    """
    output:
        "<shared>/converted/{backbone}/conversion.json",
    log:
        "<results>/logs/convert_backbone/{backbone}.log",
    benchmark:
        "<results>/benchmarks/convert_backbone/{backbone}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=12000,
        runtime=120,
        gpu=0,
    params:
        folder=plan.sources.meta_folder,
        output=plan.sources.converted_dir,
        version=plan.versions["convert"],
    shell:
        "ademvl backbones convert {params.folder:q} --output {params.output:q}"
        " --release {wildcards.backbone} > {log} 2>&1"


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


rule mini_shapes_backbones:
    """Train those of many_shapes anew (about an hour), into <results>/mini_backbones."""
    output:
        clip="<results>/mini_backbones/mini_shapes_clip/RECIPE.json",
        llm="<results>/mini_backbones/mini_shapes_llm/RECIPE.json",
        slots_llm="<results>/mini_backbones/mini_shapes_slots_llm/RECIPE.json",
    log:
        "<results>/logs/mini_shapes_backbones.log",
    benchmark:
        "<results>/benchmarks/mini_shapes_backbones.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 2
    resources:
        mem_mb=3000,
        runtime=300,
        gpu=0,
    params:
        version=plan.versions["mini_shapes_backbones"],
    shell:
        "ademvl backbones mini-shapes --threads {threads} --clip {output.clip}"
        " --llm {output.llm} --slots-llm {output.slots_llm} 2> {log}"
