"""What is known of ScienceQA without reading it."""

from ademvl.config.task_facts import CategoryFilter, ScoreColumn, ScoreTable, SourceFacts, TaskFacts

COLUMNS = tuple(
    ScoreColumn(key=key, header=header, decimals=2, group=group)
    for key, header, group in (
        ("nat", "NAT", "subject"),
        ("soc", "SOC", "subject"),
        ("lan", "LAN", "subject"),
        ("txt", "TXT", "context"),
        ("img", "IMG", "context"),
        ("no", "NO", "context"),
        ("g1_6", "G1-6", "grade"),
        ("g7_12", "G7-12", "grade"),
        ("avg", "AVG", ""),
    )
)
FACTS = TaskFacts(
    name="scienceqa",
    title="ScienceQA",
    runs_title="Questions",
    items="questions",
    answer="letter",
    learned=("choice", "open"),
    columns=COLUMNS,
    main="AVG",
    main_title="ScienceQA accuracy",
    headlines=("AVG", "IMG"),
    summarized=("img", "avg"),
    scores_in="columns",
    table=ScoreTable(
        key="accuracy",
        title="Accuracy by category",
        unit="accuracy in percent",
        reported="scienceqa_test",
        reported_notes=("Intervals of reported averages: binomial (Wilson), derived here from n.",),
    ),
    shown_as="questions",
    categories={
        "NAT": "natural science",
        "SOC": "social science",
        "LAN": "language science",
        "TXT": "with text",
        "IMG": "with an image",
        "NO": "neither text nor image",
        "G1-6": "grades 1 to 6",
        "G7-12": "grades 7 to 12",
    },
    filters=(
        CategoryFilter(name="subject", label="Subject", members=("NAT", "SOC", "LAN")),
        CategoryFilter(name="grade", label="Grade", members=("G1-6", "G7-12")),
        CategoryFilter(
            name="context", label="Context", members=("TXT", "IMG", "NO"), tells_kind=False
        ),
    ),
    has_fusion_maps=True,
    unread=("decoding",),
    pipeline="visual-question-answering",
    reference_names=("sqa",),
)
SOURCES = (SourceFacts(name="scienceqa", gives="scienceqa", keys=("take",)),)
