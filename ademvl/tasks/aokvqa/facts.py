"""What is known of A-OKVQA's multiple choice without reading it."""

from ademvl.config.task_facts import ScoreColumn, ScoreTable, SourceFacts, TaskFacts

FACTS = TaskFacts(
    name="aokvqa",
    title="A-OKVQA",
    runs_title="A-OKVQA",
    items="questions",
    answer="letter",
    learned=("choice", "open"),
    columns=(ScoreColumn(key="mc", header="MC", decimals=2),),
    main="MC",
    main_title="A-OKVQA accuracy",
    headlines=("MC",),
    summarized=("mc",),
    scores_in="columns",
    table=ScoreTable(key="aokvqa", title="A-OKVQA, multiple choice", unit="accuracy in percent"),
    shown_as="questions",
    scored_splits=("val",),
    has_val_split=False,  # results stand on it
    has_fusion_maps=True,
    unread=("decoding",),
    pipeline="visual-question-answering",
)
SOURCES = (SourceFacts(name="aokvqa", gives="aokvqa", keys=("coco",), shares=("coco_caption",)),)
