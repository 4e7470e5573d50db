"""Tables, figures and the page, from scores, metrics and provenance alone."""


rule write_tables:
    input:
        study="<results>/study.yaml",
        settings=ancient(plan.run_files()),
        scores=plan.scores(),
        taken=plan.taken_scores(),
    output:
        report(
            plan.tables(suffixes=["html"]),
            caption="../report/tables.rst",
            category="Tables",
        ),
        plan.tables(suffixes=["csv", "md", "tex"]),
    log:
        "<results>/logs/write_tables.log",
    benchmark:
        "<results>/benchmarks/write_tables.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        version=plan.versions["tables"],
    shell:
        "ademvl tables {input.study} 2> {log}"


rule tables:
    """All tables in seconds, from whatever has been run: what has not says so, and nothing is run.

    What is made here is declared by write_tables, which waits for all runs of the study.
    """
    input:
        study="<results>/study.yaml",
    log:
        "<results>/logs/tables.log",
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    shell:
        "ademvl tables {input.study} 2> {log}"


rule write_figures:
    input:
        study="<results>/study.yaml",
        scores=plan.scores(),
    output:
        report(
            plan.charts(suffixes=["png"]),
            caption="../report/figures.rst",
            category="Figures",
        ),
        plan.charts(suffixes=["svg"]),
    log:
        "<results>/logs/write_figures.log",
    benchmark:
        "<results>/benchmarks/write_figures.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=800,
        runtime=10,
        gpu=0,
    params:
        version=plan.versions["figures"],
    shell:
        "ademvl figures {input.study} 2> {log}"


rule fusion_maps:
    input:
        settings=ancient("<results>/runs/{run}/seed{seed}/run.yaml"),
        relevant="<results>/runs/{run}/seed{seed}/settings/evaluate.json",
        adapter="<results>/runs/{run}/seed{seed}/adapter/adapter.json",
    output:
        report(
            directory("<results>/runs/{run}/seed{seed}/fusion_maps"),
            patterns=["{name}.png"],
            caption="../report/fusion_maps.rst",
            category="Fusion maps",
        ),
    log:
        "<results>/logs/fusion_maps/{run}_seed{seed}.log",
    benchmark:
        "<results>/benchmarks/fusion_maps/{run}_seed{seed}.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=plan.resources.model_mem_mb,
        runtime=30,
        gpu=plan.resources.gpus,
        gpu_limit=plan.resources.gpu_limit,
    params:
        version=plan.versions["fusion_maps"],
        chosen=plan.fusion_map_options,
    shell:
        "ademvl fusion-maps {input.settings} {params.chosen}"
        " --gpus {resources.gpu} --gpu-limit {resources.gpu_limit:q} 2> {log}"


rule write_page:
    input:
        study="<results>/study.yaml",
        scores=plan.scores(),
        taken=plan.taken_scores(),
        fusion_maps=plan.fusion_maps(),
    output:
        report(
            directory("<results>/report"),
            htmlindex="index.html",
            caption="../report/page.rst",
            category="Report",
        ),
    log:
        "<results>/logs/write_page.log",
    benchmark:
        "<results>/benchmarks/write_page.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        versions=[plan.versions[made] for made in ("report", "tables", "figures")],
    shell:
        "ademvl report {input.study} 2> {log}"


rule write_bundle:
    """Scores, predictions, provenance, settings, tables and figures in one zip file."""
    input:
        study="<results>/study.yaml",
        scores=plan.scores(),
        taken=plan.taken_scores(),
        tables=plan.tables(),
        figures=plan.figures(),
    output:
        "<results>/bundle.zip",
    log:
        "<results>/logs/write_bundle.log",
    benchmark:
        "<results>/benchmarks/write_bundle.tsv"
    conda:
        "../../envs/ademvl.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        version=plan.versions["bundle"],
    shell:
        "ademvl bundle {input.study} --with-figures --output {output} 2> {log}"
