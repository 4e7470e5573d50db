"""Settings of one run: a task, a method, backbones, optimisation and one seed, completely resolved.

`run.yaml` in a run's directory holds exactly these settings; every verb that works on a run reads
them from there.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.method import MethodSettings, default_method
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.ranges import check_ranges
from ademvl.config.schema import OMITTED_AT_DEFAULT
from ademvl.errors import SettingsError

Task = Literal["scienceqa", "coco_caption", "instruction"]
Precision = Literal["fp32", "fp16", "bf16"]
Normalization = Literal["by_task", "clip", "imagenet"]
LabelMask = Literal["reference", "exact"]
EVALUATION_PROMPTS = ("evaluation", "overflow", "evaluation_window", "caption_cue")
"""Keys of `prompts` that no training depends on."""
REFERENCE_WINDOW = 512
"""Positions of a sequence in the reference implementation's evaluation, whatever training had."""
Quantization = Literal["none", "int8", "int4"]
RELEASED = "released"
"""Value of a run's key `adapter`: the run evaluates an adapter that its authors released."""
TRAINED = "trained"
"""Value of a run's key `adapter` that is no name of another run: the run trains its own."""
# A format is PROMPT-ANSWER: what the prompt shows in order (Q question, C context, M choices,
# L lecture, E solution), and what the answer holds (A the letter). All pairs of these exist in the
# reference implementation; golden case G has them all.
PROMPT_PARTS = ("Q", "QM", "CQM", "QCM", "QCML", "QCME", "QCMLE", "QCLM", "QCEM", "QCLEM")
ANSWER_PARTS = ("A", "AL", "AE", "ALE", "AEL", "LA", "EA", "LEA", "ELA")
PROMPT_FORMATS = tuple(f"{prompt}-{answer}" for prompt in PROMPT_PARTS for answer in ANSWER_PARTS)


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The frozen models.

    Attributes:
        llm: `mini` (shipped with the package), or a folder in the layout of transformers or of
            Meta's releases, a GGUF file, or a repository id of the Hugging Face hub.
        tower: `mini`, or a model name of open_clip such as `ViT-L-14-quickgelu`.
        tower_weights: pretrained tag or file for open_clip; empty for `mini`.
        precision: dtype of the frozen language model's weights.
        quantization: bits in which the weights of its linear layers are kept, `int8` or `int4`, to
            save memory; needs the extra `quantized`. `none` keeps them in `precision`.
    """

    llm: str = "mini"
    tower: str = "mini"
    tower_weights: str = ""
    precision: Precision = "fp32"
    quantization: Quantization = field(default="none", metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True, kw_only=True)
class FeatureTemplate:
    """How images reach the method, as a study says it.

    Attributes:
        mode: `cached` (frozen tower, each image encoded once), or `online` (pixels through the
            tower in every step, with trained adapters inside it).
        precision: dtype in which cached features are stored.
        augmentation: `reference` changes the images of caption training at random, anew in every
            epoch: a crop, a flip and two operations; `none` does not. Only with online features,
            because cached ones are of the image as it is.
        normalization: mean and standard deviation of pixels: `by_task` is the reference's, that of
            CLIP for captions and of ImageNet for all else, though the tower is CLIP's in both.
    """

    mode: Literal["cached", "online"] = "online"
    precision: Precision = "fp16"
    augmentation: Literal["reference", "none"] = "reference"
    normalization: Normalization = field(default="by_task", metadata=OMITTED_AT_DEFAULT)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(FeatureTemplate):
    """How images reach the method, and where cached features lie.

    Attributes:
        cache_dir: folder of the content-addressed cache, shared by studies: follows from the
            study's `shared_dir`.
    """

    cache_dir: str = "results/shared/features"


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Text of ScienceQA prompts.

    Attributes:
        train_format: format of the training prompt and answer.
        evaluation: `matched` evaluates with the training format; `reference` with QCM-A and the
            image's caption in the context, as the authors' code does.
        max_seq_len: tokens of a sequence in all, prefix and slots included.
        overflow: of evaluation prompts that are too long: `keep_cue` cuts the context out of the
            middle; `cut_end` cuts the end, which asks for the answer, as the reference does;
            `by_evaluation` follows `evaluation`: keep_cue for matched, cut_end for reference.
        evaluation_window: tokens of a sequence in evaluation; 0 for max_seq_len, or for the
            reference's 512 where `evaluation` is reference.
        label_mask: `reference` leaves as many tokens out of the loss as the prompt alone has, one
            too many where the prompt ends in a space, as that of captions does; `exact` leaves out
            those that the prompt shares with the whole text.
        image_prefix: `with_slots` puts "Image: " or "Image: N/A" before the text where the method
            puts vectors there, as the reference does; `always` without them, too.
        caption_answer: `doubled` learns "a picture of " once more before each caption, as the
            reference does; `plain` the caption alone.
        caption_cue: `stripped` asks for captions with "a picture of", as the reference does;
            `as_trained` with the space behind it.
    """

    train_format: str = "CQM-A"
    evaluation: Literal["matched", "reference"] = "matched"
    max_seq_len: int = 512
    overflow: Literal["by_evaluation", "keep_cue", "cut_end"] = field(
        default="by_evaluation", metadata=OMITTED_AT_DEFAULT
    )
    evaluation_window: int = field(default=0, metadata=OMITTED_AT_DEFAULT)
    label_mask: LabelMask = field(default="reference", metadata=OMITTED_AT_DEFAULT)
    image_prefix: Literal["with_slots", "always"] = field(
        default="with_slots", metadata=OMITTED_AT_DEFAULT
    )
    caption_answer: Literal["doubled", "plain"] = field(
        default="doubled", metadata=OMITTED_AT_DEFAULT
    )
    caption_cue: Literal["stripped", "as_trained"] = field(
        default="stripped", metadata=OMITTED_AT_DEFAULT
    )

    def __post_init__(self) -> None:
        if self.train_format not in PROMPT_FORMATS:
            nearest = get_close_matches(self.train_format.upper(), PROMPT_FORMATS, n=1, cutoff=0.0)
            raise SettingsError(
                f"prompts.train_format: {self.train_format!r}, expected one of "
                f"{'|'.join(PROMPT_PARTS)}, a dash, one of {'|'.join(ANSWER_PARTS)}; "
                f"nearest: {nearest[0]}"
            )
        ranges = {">= 1": ("max_seq_len",), ">= 0": ("evaluation_window",)}
        check_ranges("prompts", self, ranges)

    @property
    def cuts_end(self) -> bool:
        """Whether evaluation prompts that are too long lose their end."""
        if self.overflow == "by_evaluation":
            return self.evaluation == "reference"
        return self.overflow == "cut_end"

    @property
    def window(self) -> int:
        """Tokens of a sequence in evaluation, new ones included."""
        standard = REFERENCE_WINDOW if self.evaluation == "reference" else self.max_seq_len
        return self.evaluation_window or standard


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that determines one run's results, with where its data lies.

    Attributes:
        study, name, seed: identity; the run's directory is results/<study>/runs/<name>/seed<seed>.
        task: what is trained and evaluated.
        data_dir: folder of the task's data set in the project's layout.
        evaluation_data_dir: folder of MME, on which task instruction is evaluated; empty for tasks
            that are evaluated on a split of their own data set.
        adapter: `trained`; `released`, for one that is only evaluated; or the run of the same study
            whose adapter this one evaluates.
        released_from: checkpoint of a released adapter, or the folder that holds it.
        images: `withheld` gives the text-only control: same training, no question has an image.
    """

    study: str
    name: str
    seed: int
    task: Task
    data_dir: str
    evaluation_data_dir: str = field(default="", metadata=OMITTED_AT_DEFAULT)
    adapter: str = field(default=TRAINED, metadata=OMITTED_AT_DEFAULT)
    released_from: str = field(default="", metadata=OMITTED_AT_DEFAULT)
    images: Literal["shown", "withheld"] = "shown"
    method: MethodSettings = field(default_factory=default_method)
    backbones: BackboneSettings = BackboneSettings()
    features: FeatureSettings = FeatureSettings()
    prompts: PromptSettings = PromptSettings()
    optimization: OptimizationSettings = OptimizationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def evaluation_task(self) -> str:
        """Name of the score file: the task, or `mme`, on which task instruction is evaluated."""
        return "mme" if self.task == "instruction" else self.task

    @property
    def could_augment(self) -> bool:
        """Whether `features.augmentation` has any effect in this run."""
        return self.task == "coco_caption" and self.features.mode == "online"

    @property
    def has_image_prefix(self) -> bool:
        """Whether rows begin with "Image: " or "Image: N/A"."""
        return self.method.text_places.with_image > 0 or self.prompts.image_prefix == "always"

    @property
    def augments_images(self) -> bool:
        """Whether training images are changed at random."""
        return self.could_augment and self.features.augmentation == "reference"

    @property
    def has_fusion_maps(self) -> bool:
        """Whether fusion maps can be drawn: images are shown to a method that has them."""
        is_known_task = self.task in ("scienceqa", "coco_caption")
        return is_known_task and self.images == "shown" and self.method.draws_scores
