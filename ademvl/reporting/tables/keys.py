"""Keys of all tables: names of their files, and what the workflow declares."""

from ademvl.config.study import Study
from ademvl.config.tasks import all_facts

ABLATIONS = (
    "ablation_components",
    "ablation_fusion_position",
    "ablation_projection",
    "ablation_downsampling",
    "ablation_visual_input",
)
_FIRST, *_OTHERS = (facts.table.key for facts in all_facts().values() if facts.table.reported)
TABLE_KEYS = (
    _FIRST,
    "comparison",
    *_OTHERS,
    "replication",
    "replication_experiments",
    *ABLATIONS,
    "efficiency",
    "image_understanding",
    "cost",
)
"""Those of every study, in the order of a page; a study's own tables come first there."""
COST_KEYS = ("cost", "efficiency")
"""Tables of what runs took alone."""
MEASURED_KEYS = (*COST_KEYS, "comparison")
"""Tables with numbers that differ between repetitions of the same run."""
TABLE_SUFFIXES = ("csv", "md", "tex", "html")


def table_keys(study: Study) -> tuple[str, ...]:
    """Return the keys of a study's tables; tasks without reported numbers need a run."""
    tasks = {template.task for template in study.settings.runs.values()}
    own = [
        facts.table.key
        for facts in all_facts().values()
        if facts.name in tasks and not facts.table.reported
    ]
    place = TABLE_KEYS.index("replication")
    return (*TABLE_KEYS[:place], *own, *TABLE_KEYS[place:])
