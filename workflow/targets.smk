"""What can be asked for by name, beside `all`; jobs that only gather run where Snakemake does."""


localrules:
    all,
    data,
    features,
    train,
    evaluate,
    tables,
    figures,
    report,
    bundle,


rule data:
    """Data sets in their layout, verified; weights, and what else the study fetches."""
    input:
        plan.sources.downloads(),
        plan.sources.converted(),
        plan.data_ready(),


rule features:
    """Image features of all runs with a frozen vision tower."""
    input:
        plan.features.reports(),


rule train:
    """Trained adapters of all runs and seeds."""
    input:
        plan.adapters(),


rule evaluate:
    """Predictions and scores of all runs and seeds."""
    input:
        plan.scores(),


rule figures:
    """Learning curves, accuracy by category and fusion maps."""
    input:
        plan.figures(),


rule report:
    """One page with tables, figures, costs and provenance."""
    input:
        plan.report(),


rule bundle:
    """The results as one zip file, to be passed on and compared (ademvl diff)."""
    input:
        plan.bundle(),
