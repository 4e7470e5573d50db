"""ademvl: from nothing to tables of measured beside reported numbers.

    snakemake --cores all              the mini study of config.yaml
    snakemake --list                   targets
    snakemake --configfile workflow/studies/<name>.yaml --cores all

Everything stands under <results>, which is results/<study>: study.yaml, features/, rates/, runs/<run>/seed<seed>/,
tables/, figures/, report/, logs/, benchmarks/. docs/outputs.md says what each file is.
"""

from snakemake.utils import min_version

from ademvl.config.tasks import all_facts
from ademvl.workflow.plan import WorkflowPlan
from ademvl.workflow.start import check_workflow
from ademvl.workflow.terminal.records import end_drawing, show_results_when_idle

min_version("9.10")

# Files merge, and a study's runs must not mix with others.
if not workflow.configfiles and "include" not in config:

    configfile: "config.yaml"


plan = WorkflowPlan.of_config(config, workflow.configfiles)
plan.notice_changes(workflow)
show_results_when_idle(workflow, f"{plan.results}/study.yaml")


pathvars:
    results=plan.results,
    shared=plan.shared,


wildcard_constraints:
    dataset="[A-Za-z0-9_]+",
    run="[A-Za-z0-9_]+",
    seed="[0-9]+",
    features="[0-9a-f]+",
    task="|".join(facts.evaluated_as for facts in all_facts().values()),
    source="[a-z0-9_]+",
    backbone="[a-z0-9_]+",
    verb="features|train|evaluate",


report: "workflow/report/workflow.rst"


include: "workflow/targets.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    """Everything: data, features, training, evaluation, tables, figures, report (the default)."""
    default_target: True
    input:
        plan.scores(),
        plan.tables(),
        plan.figures(),
        plan.report(),


onstart:
    plan.hold()
    plan.check_start(workflow)
    check_workflow(workflow)


onsuccess:
    end_drawing(workflow)
    shell("ademvl summary --if-complete {plan.results:q}/study.yaml")
