"""Settings of one run: a task, a method, backbones, optimisation and one seed, completely resolved.

`run.yaml` in a run's directory holds exactly these settings; every verb that works on a run reads
them from there.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal

from ademvl.config.evaluation import EvaluationSettings
from ademvl.config.methods_by_name import AnyMethod, default_method
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.setting import group, setting, settings_class
from ademvl.config.tasks import TaskName, facts_of

Precision = Literal["fp32", "fp16", "bf16"]
PRECISION_BYTES: Mapping[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
Normalization = Literal["by_task", "clip", "imagenet", "siglip"]
TowerCls = Literal["token", "pooled"]
TRANSFORMERS_TOWER = "transformers"
"""Value of `backbones.tower` for towers of transformers, which `tower_weights` names."""
LabelMask = Literal["reference", "exact"]
REFERENCE_WINDOW = 512
"""Positions of a sequence in the reference implementation's evaluation, whatever training had."""
Quantization = Literal["none", "int8", "int4"]
RELEASED = "released"
"""Value of a run's key `adapter`: the run evaluates an adapter that its authors released."""
TRAINED = "trained"
"""Value of a run's key `adapter` that is no name of another run: the run trains its own."""
PRETRAINED = "pretrained"
"""The same for a whole system that is evaluated as its checkpoint is."""
PREDICTIONS = "predictions"
"""The same for a system measured elsewhere: its answers are read from a file."""
GIVEN_ADAPTERS = (RELEASED, PRETRAINED, PREDICTIONS)
"""Values of `adapter` with which nothing is trained here: one training, made by others."""
ADAPTER_KEYWORDS = (TRAINED, *GIVEN_ADAPTERS)
"""Values of `adapter` that name no other run."""
# A format is PROMPT-ANSWER: what the prompt shows in order (Q question, C context, M choices,
# L lecture, E solution), and what the answer holds (A the letter). All pairs of these exist in the
# reference implementation; golden case G has them all.
PROMPT_PARTS = ("Q", "QM", "CQM", "QCM", "QCML", "QCME", "QCMLE", "QCLM", "QCEM", "QCLEM")
ANSWER_PARTS = ("A", "AL", "AE", "ALE", "AEL", "LA", "EA", "LEA", "ELA")
PROMPT_FORMATS = tuple(f"{prompt}-{answer}" for prompt in PROMPT_PARTS for answer in ANSWER_PARTS)


LARGEST_SEED = 2**32 - 1


@settings_class
class BackboneSettings:
    """The frozen models.

    Attributes:
        llm: `mini`, `mini_shapes` or `mini_shapes_slots`, which ship with the package and know the
            words of easy_vqa or of many_shapes, the last vectors in place of an image, too; or a
            folder in the layout of transformers or of Meta's releases, a GGUF file, or a repository
            id of the Hugging Face hub.
        tower: `mini` or `mini_shapes`, which ship with the package and know images of easy_vqa and
            of many_shapes, or a model name of open_clip such as `ViT-L-14-quickgelu`, or
            `transformers` for a DINOv2, DINOv3 or SigLIP in its layout.
        tower_weights: pretrained tag or file for open_clip, folder or repository id for
            `transformers`; empty for those of the package.
        tower_cls: what takes the place of [cls]: `token` is the tower's own; `pooled`, for towers
            without one, is what its attention pooling makes of the tokens (SigLIP), or the mean of
            the grid (ConvNeXt).
        precision: dtype of the frozen language model's weights.
        quantization: bits in which the weights of its linear layers are kept, `int8` or `int4`, to
            save memory; needs the extra `quantized`. `none` keeps them in `precision`.
    """

    llm: str = setting(changes="results", default="mini", portable=True)
    tower: str = setting(changes="results", default="mini")
    tower_weights: str = setting(changes="results", default="", portable=True)
    tower_cls: TowerCls = setting(changes="results", default="token", omitted_at_default=True)
    precision: Precision = setting(changes="results", default="fp32", portable=True)
    quantization: Quantization = setting(
        changes="results", default="none", portable=True, omitted_at_default=True
    )


@settings_class
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
            CLIP for captions and of ImageNet for all else, though the tower is CLIP's in both;
            `imagenet` is right for DINO, `siglip` for SigLIP (0.5 and 0.5).
    """

    mode: Literal["cached", "online"] = setting(changes="results", default="online")
    precision: Precision = setting(changes="results", default="fp16")
    augmentation: Literal["reference", "none"] = setting(changes="training", default="reference")
    normalization: Normalization = setting(
        changes="results", default="by_task", omitted_at_default=True
    )


@settings_class
class FeatureSettings(FeatureTemplate):
    """How images reach the method, and where cached features lie.

    Attributes:
        cache_dir: folder of the content-addressed cache, shared by studies: follows from the
            study's `shared_dir`.
    """

    cache_dir: str = setting(changes="nothing", default="results/shared/features")


def _check_format(train_format: str) -> None:
    if train_format not in PROMPT_FORMATS:
        nearest = get_close_matches(train_format.upper(), PROMPT_FORMATS, n=1, cutoff=0.0)
        raise ValueError(
            f"{train_format!r}, expected one of {'|'.join(PROMPT_PARTS)}, a dash, one of "
            f"{'|'.join(ANSWER_PARTS)}; nearest: {nearest[0]}"
        )


@settings_class
class PromptSettings:
    """Text of prompts, and how it becomes tokens; formats are those of ScienceQA.

    Attributes:
        train_format: parts of the training prompt in their order, and those of the answer behind a
            dash: question (Q), context (C), choices (M), lecture (L), explanation (E), answer (A).
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

    train_format: str = setting(changes="results", default="CQM-A", check=_check_format)
    evaluation: Literal["matched", "reference"] = setting(changes="evaluation", default="matched")
    max_seq_len: int = setting(changes="results", default=512, ge=1, le=1_000_000)
    overflow: Literal["by_evaluation", "keep_cue", "cut_end"] = setting(
        changes="evaluation", default="by_evaluation", omitted_at_default=True
    )
    evaluation_window: int = setting(
        changes="evaluation", default=0, ge=0, le=1_000_000, omitted_at_default=True
    )
    label_mask: LabelMask = setting(
        changes="training", default="reference", omitted_at_default=True
    )
    image_prefix: Literal["with_slots", "always"] = setting(
        changes="results", default="with_slots", omitted_at_default=True
    )
    caption_answer: Literal["doubled", "plain"] = setting(
        changes="training", default="doubled", omitted_at_default=True
    )
    caption_cue: Literal["stripped", "as_trained"] = setting(
        changes="evaluation", default="stripped", omitted_at_default=True
    )

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


@settings_class
class RunSettings:
    """Everything that determines one run's results, with where its data lies.

    Attributes:
        study, name: the run's directory is results/<study>/runs/<name>/seed<seed>.
        seed: of the training, and of sampling in its evaluation.
        task: what is trained and evaluated.
        data_dir: folder of the task's data set in the project's layout.
        evaluation_data_dir: folder of MME, on which task instruction is evaluated; empty for tasks
            that are evaluated on a split of their own data set.
        adapter: `trained`; `released`, for one that is only evaluated; `pretrained`, for a whole
            system; `predictions`, for one measured elsewhere; or the run of the same study whose
            adapter this one evaluates.
        released_from: checkpoint of a released adapter, or the folder that holds it; or the file of
            predictions.
        start_from: folder of the adapter that the training starts from; empty where all parameters
            are newly initialised.
        images: `withheld` gives the text-only control: same training, no question has an image.
        method, backbones, features, prompts, optimization, evaluation: groups of settings.
    """

    study: str = setting(changes="nothing")
    name: str = setting(changes="nothing")
    seed: int = setting(changes="training", ge=0, le=LARGEST_SEED)
    task: TaskName = setting(changes="results")
    data_dir: str = setting(changes="results", by_content=True)
    evaluation_data_dir: str = setting(
        changes="evaluation", default="", by_content=True, omitted_at_default=True
    )
    adapter: str = setting(
        changes="results", default=TRAINED, by_content=True, omitted_at_default=True
    )
    released_from: str = setting(
        changes="results", default="", by_content=True, omitted_at_default=True
    )
    start_from: str = setting(
        changes="results", default="", by_content=True, omitted_at_default=True
    )
    images: Literal["shown", "withheld"] = setting(
        changes="results", default="shown", portable=True
    )
    method: AnyMethod = group(default_factory=default_method)
    backbones: BackboneSettings = group(default_factory=BackboneSettings)
    features: FeatureSettings = group(default_factory=FeatureSettings)
    prompts: PromptSettings = group(default_factory=PromptSettings)
    optimization: OptimizationSettings = group(default_factory=OptimizationSettings)
    evaluation: EvaluationSettings = group(default_factory=EvaluationSettings)

    @property
    def evaluation_task(self) -> str:
        """Name of the score file: the task, or `mme`, on which task instruction is evaluated."""
        return facts_of(self.task).evaluated_as

    @property
    def evaluated_dir(self) -> str:
        """Folder of the data set that the run is evaluated on."""
        return self.evaluation_data_dir or self.data_dir

    @property
    def new_tokens(self) -> int:
        """Tokens that are generated for an item of evaluation."""
        by_letter = facts_of(self.task).answer == "letter"
        return 1 if by_letter else self.evaluation.max_new_tokens

    @property
    def could_augment(self) -> bool:
        """Whether `features.augmentation` has any effect in this run."""
        return facts_of(self.task).is_augmented and self.features.mode == "online"

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
        has_maps = facts_of(self.task).has_fusion_maps
        return has_maps and self.images == "shown" and self.method.draws_scores
