"""Keys of all tables: names of their files, and what the workflow declares; free of imports."""

ABLATIONS = (
    "ablation_components",
    "ablation_fusion_position",
    "ablation_projection",
    "ablation_downsampling",
    "ablation_visual_input",
)
TABLE_KEYS = (
    "accuracy",
    "comparison",
    "captions",
    "mme",
    "replication",
    "replication_experiments",
    *ABLATIONS,
    "efficiency",
    "image_understanding",
    "cost",
)
"""In the order of a page; a study's own tables come first there."""
COST_KEYS = ("cost", "efficiency")
"""Tables of what runs took alone."""
MEASURED_KEYS = (*COST_KEYS, "comparison")
"""Tables with numbers that differ between repetitions of the same run."""
TABLE_SUFFIXES = ("csv", "md", "tex", "html")
