"""What is known of COCO captions without reading them."""

from ademvl.config.task_facts import ScoreColumn, ScoreTable, SourceFacts, TaskFacts

FACTS = TaskFacts(
    name="coco_caption",
    title="Captions",
    runs_title="Captions",
    items="images",
    answer="text",
    learned=("caption",),
    columns=(
        ScoreColumn(key="bleu4", header="BLEU-4", decimals=1),
        ScoreColumn(key="cider", header="CIDEr", decimals=1, largest=1000.0),
        ScoreColumn(key="rouge_l", header="ROUGE-L", decimals=1),
    ),
    main="CIDEr",
    main_title="Caption CIDEr",
    headlines=("BLEU-4", "CIDEr"),
    summarized=("bleu4", "cider"),
    scores_in="metrics",
    table=ScoreTable(
        key="captions",
        title="Captions",
        unit="score times 100",
        reported="coco_caption_karpathy_test",
        notes=(
            "CIDEr is CIDEr-D with document frequencies of the scored images' references: it "
            "compares on the same images only.",
        ),
    ),
    shown_as="captions",
    needs_images=True,
    normalization="clip",
    is_augmented=True,
    has_fusion_maps=True,
    unread=("answer_by",),
    pipeline="image-to-text",
    reference_names=("coco_caption", "caption"),
)
SOURCES = (SourceFacts(name="coco_caption", gives="coco_caption", keys=("caption_splits",)),)
