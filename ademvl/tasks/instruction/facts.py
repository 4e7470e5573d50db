"""What is known of LaVIN's instruction data, and of runs on it, without reading it."""

from ademvl.config.task_facts import CategoryFilter, ScoreColumn, ScoreTable, SourceFacts, TaskFacts
from ademvl.tasks.mme.reader import COGNITION, PERCEPTION, TASK_POINTS, TASKS

FACTS = TaskFacts(
    name="instruction",
    title="Instructions",
    runs_title="Instructions",
    items="images",
    answer="text",
    learned=("open",),
    columns=(
        ScoreColumn(
            key="mme_p",
            header="MME-P",
            decimals=1,
            largest=TASK_POINTS * len(PERCEPTION),
            stored_as="perception",
        ),
        ScoreColumn(
            key="mme_c",
            header="MME-C",
            decimals=1,
            largest=TASK_POINTS * len(COGNITION),
            stored_as="cognition",
        ),
    ),
    main="MME-P",
    main_title="MME perception",
    headlines=("MME-P", "MME-C"),
    scores_in="sums",
    scores_unit="score",
    table=ScoreTable(
        key="mme",
        title="MME",
        unit="points",
        reported="mme",
        reported_notes=("Extra tokens: those that the language model processes beyond the text.",),
    ),
    shown_as="questions",
    categories={task: task.replace("_", " ") for task in TASKS},
    filters=(CategoryFilter(name="category", label="Category", members=tuple(TASKS)),),
    benchmark="mme",
    has_val_split=False,
    may_lack_answers=True,
    unread=("answer_by", "split"),
    pipeline="image-text-to-text",
    sizes_note=(
        "an item for each of LLaVA-Instruct-150K's conversations; LaVIN's file has one for each "
        "question and answer, so there are more, and more steps, than shown"
    ),
    reference_names=("instruction",),
)
SOURCES = (
    SourceFacts(
        name="lavin_instruct", gives="instruction", keys=("coco",), shares=("coco_caption",)
    ),
)
