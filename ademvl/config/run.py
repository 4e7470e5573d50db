"""Settings of one run: a task, a method, backbones, optimisation and one seed, completely resolved.

`run.yaml` in a run's directory holds exactly these settings; every verb that works on a run reads
them from there.
"""

import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from ademvl.config.method import AdemSettings
from ademvl.config.schema import OMITTED_AT_DEFAULT
from ademvl.errors import SettingsError

Task = Literal["scienceqa", "coco_caption", "instruction"]
Precision = Literal["fp32", "fp16", "bf16"]
Normalization = Literal["by_task", "clip", "imagenet"]
LabelMask = Literal["reference", "exact"]
AnswerBy = Literal["greedy", "likelihood", "letter"]
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
class FeatureSettings:
    """How images reach the method.

    Attributes:
        mode: `cached` (frozen tower, each image encoded once), or `online` (pixels through the
            tower in every step, with trained adapters inside it).
        precision: dtype in which cached features are stored.
        cache_dir: folder of the content-addressed cache, shared by studies.
        augmentation: `reference` changes the images of caption training at random, anew in every
            epoch: a crop, a flip and two operations; `none` does not. Only with online features,
            because cached ones are of the image as it is.
        normalization: mean and standard deviation of pixels: `by_task` is the reference's, that of
            CLIP for captions and of ImageNet for all else, though the tower is CLIP's in both.
    """

    mode: Literal["cached", "online"] = "online"
    precision: Precision = "fp16"
    cache_dir: str = "results/shared/features"
    augmentation: Literal["reference", "none"] = "reference"
    normalization: Normalization = field(default="by_task", metadata=OMITTED_AT_DEFAULT)


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
        if self.max_seq_len < 1:
            raise SettingsError(f"prompts.max_seq_len: {self.max_seq_len}, expected >= 1")
        if self.evaluation_window < 0:
            raise SettingsError(
                f"prompts.evaluation_window: {self.evaluation_window}, expected >= 1, or 0"
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


@dataclass(frozen=True, kw_only=True)
class OptimizationSettings:
    """AdamW and its schedule; defaults are the paper's ScienceQA recipe.

    Attributes:
        epochs: passes over the training split, may be a fraction.
        warmup_epochs: linear warm-up, may be a fraction.
        base_lr: learning rate for an effective batch of 256; lr = base_lr * batch / 256.
        min_lr: end of the half-cosine.
        effective_batch_size: items of one optimiser step over all devices.
        per_device_batch_size: items that one device holds at once; accumulation is derived.
        gradient_checkpointing: keep little of each layer and compute it again when gradients are
            taken: less memory, a third more time, the same result.
        loss_group_size: items whose answer tokens are averaged together before groups are
            averaged; 2 is the reference's micro-batch; 0 averages over the whole effective batch.
        weight_decay: on tensors of two or more dimensions.
        beta1, beta2, eps: of AdamW.
        lr_evaluated_at: the learning rate of a step is the schedule's at its `start`, as in the
            reference, so that the first one of a warm-up is 0; or at its `middle`.
        imageless_steps: a step without any image gives projections and tower adapters no gradient:
            `skip` leaves them as they are, `zero_gradient` lets momentum and decay move them, as
            the torch release that the reference pins does.
        max_nonfinite_steps: steps in a row whose loss or gradient is not finite, each left out and
            counted, that end the training, >= 1.
        state_interval_seconds: time between two resumable states.
        log_interval_steps: optimiser steps averaged in one row of metrics.csv.
    """

    epochs: float = 20.0
    warmup_epochs: float = 2.0
    base_lr: float = 9e-3
    min_lr: float = 0.0
    effective_batch_size: int = 32
    per_device_batch_size: int = 4
    gradient_checkpointing: bool = field(default=False, metadata=OMITTED_AT_DEFAULT)
    loss_group_size: int = 2
    weight_decay: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    lr_evaluated_at: Literal["start", "middle"] = field(
        default="start", metadata=OMITTED_AT_DEFAULT
    )
    imageless_steps: Literal["skip", "zero_gradient"] = field(
        default="skip", metadata=OMITTED_AT_DEFAULT
    )
    max_nonfinite_steps: int = field(default=10, metadata=OMITTED_AT_DEFAULT)
    state_interval_seconds: float = 60.0
    log_interval_steps: int = 10

    def __post_init__(self) -> None:
        for key in ("effective_batch_size", "per_device_batch_size", "max_nonfinite_steps"):
            if getattr(self, key) < 1:
                raise SettingsError(f"optimization.{key}: {getattr(self, key)}, expected >= 1")
        if self.effective_batch_size % self.per_device_batch_size:
            raise SettingsError(
                f"optimization.per_device_batch_size: {self.per_device_batch_size} does not divide "
                f"effective_batch_size {self.effective_batch_size}; possible: "
                f"{_divisors(self.effective_batch_size)}"
            )
        if self.loss_group_size and self.effective_batch_size % self.loss_group_size:
            raise SettingsError(
                f"optimization.loss_group_size: {self.loss_group_size} does not divide "
                f"effective_batch_size {self.effective_batch_size}"
            )

    @property
    def lr(self) -> float:
        """Peak learning rate in force."""
        return self.base_lr * self.effective_batch_size / 256

    def accumulation_steps(self, processes: int = 1) -> int:
        """Return the passes of one step on each device.

        Args:
            processes: that train together, one a device.

        Raises:
            SettingsError: the batches do not divide; the message names what is possible.
        """
        passes = self.effective_batch_size // self.per_device_batch_size
        if passes % processes:
            sizes = (
                _divisors(self.effective_batch_size // processes)
                if self.effective_batch_size % processes == 0
                else []
            )
            raise SettingsError(
                f"{processes} processes of per_device_batch_size {self.per_device_batch_size} do "
                f"not divide effective_batch_size {self.effective_batch_size}; possible: "
                f"{_divisors(passes)} processes (--processes, or CUDA_VISIBLE_DEVICES)"
                + (f", or a per_device_batch_size of {sizes} on {processes}" if sizes else "")
            )
        return passes // processes


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How tokens of a caption or a free answer are chosen; the reference is greedy.

    Attributes:
        strategy: `greedy` takes the most likely token, `beam` the most likely of `num_beams`
            continuations, `sample` draws with the run's seed and the item's id.
        num_beams: continuations that a beam search keeps.
        length_penalty: of a beam search: log-likelihoods are divided by length to this power.
        temperature: of sampling, > 0: logits are divided by it.
        top_p: of sampling, 0 < top_p <= 1: only the most likely tokens that together have this
            probability are drawn from.
    """

    strategy: Literal["greedy", "beam", "sample"] = "greedy"
    num_beams: int = 5
    length_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise SettingsError(f"evaluation.decoding.num_beams: {self.num_beams}, expected >= 1")
        if not 0 < self.temperature < math.inf:
            raise SettingsError(
                f"evaluation.decoding.temperature: {self.temperature}, expected > 0; "
                "strategy greedy is the limit of small ones"
            )
        if not 0 < self.top_p <= 1:
            raise SettingsError(f"evaluation.decoding.top_p: {self.top_p}, expected 0 < top_p <= 1")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a trained run is scored.

    Attributes:
        split: split of the data set; for captions the name of the Karpathy split; not used by task
            instruction, as MME has one only.
        batch_size: items per forward pass; has no influence on results.
        answer_by: of ScienceQA: `greedy` takes the choice that the most likely next token names,
            as the reference does; `likelihood` the choice whose letter is the most likely next
            token, so that every question gets an answer; `letter` accepts no more than a letter,
            where greedy finds T in "The".
        max_new_tokens: tokens of a generated caption or answer to MME; 20 in the reference.
        decoding: how tokens of a generated caption or answer to MME are chosen.
    """

    split: Literal["val", "test"] = "test"
    batch_size: int = 64
    answer_by: AnswerBy = "greedy"
    max_new_tokens: int = 20
    decoding: DecodingSettings = DecodingSettings()

    def __post_init__(self) -> None:
        for key in ("batch_size", "max_new_tokens"):
            if getattr(self, key) < 1:
                raise SettingsError(f"evaluation.{key}: {getattr(self, key)}, expected >= 1")


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
    method: AdemSettings = AdemSettings()
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
        return self.method.num_slots > 0 or self.prompts.image_prefix == "always"

    @property
    def augments_images(self) -> bool:
        """Whether training images are changed at random."""
        return self.could_augment and self.features.augmentation == "reference"

    @property
    def has_fusion_maps(self) -> bool:
        """Whether fusion maps can be drawn: images are shown to the adaptive fusion."""
        is_known_task = self.task in ("scienceqa", "coco_caption")
        return is_known_task and self.images == "shown" and self.method.fusion == "adem"
