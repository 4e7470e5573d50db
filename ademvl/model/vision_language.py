"""The vision-language model: a frozen language model and tower, joined by the trained adapter.

Everything here takes batches as `ademvl.data.collate` makes them and moves them to the model's
device itself. Precision is the caller's: the adapter is kept in fp32, and keys, values and slot
vectors are cast once per forward pass to the dtype in which the language model computes (that of
autocast where it is on).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ademvl.config.run import RunSettings
from ademvl.data.collate import Batch
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import SettingsError, WeightsError, list_findings
from ademvl.llm.loading import load_llm
from ademvl.machine.cpu_kernels import present_arithmetic
from ademvl.machine.devices import compute_device
from ademvl.methods.adem.method import AdemAdapter, VisualPrompt
from ademvl.methods.adem.rule import keep_mask, visual_scores
from ademvl.methods.adem.settings import AdemSettings, as_adem
from ademvl.methods.sites import FusionContext, attach, decoder_layers
from ademvl.randomness import derive_seed
from ademvl.vision.tower import VisionTower, load_tower, tower_shape

CLIP_ADAPTERS = "clip_adapters"


class LabelledLogits(NamedTuple):
    """Predictions at the M scored positions of a batch, row by row.

    Attributes:
        logits: (M, V), at the position before each scored token.
        targets: (M,) int64, the scored tokens.
        rows: (M,) int64, row of the batch that each belongs to.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor


class FusionScores(NamedTuple):
    """What every text token saw of the image in each layer.

    Attributes:
        scores: similarities before dropping, (L, B, T, N).
        is_kept: (L, B, T, N) bool.
    """

    scores: Tensor
    is_kept: Tensor


class VisionLanguageModel(nn.Module):
    """ADEM-VL on any decoder of transformers (paper: arXiv 2410.17779).

    The language model and the tower are frozen and stay in evaluation mode; `train` and `eval`
    switch dropout in the trained parts alone. New trained tensors are uninitialised: call
    `initialize`, or load a state.

    Args:
        llm: causal language model with layers `llm.model.layers[i]`.
        settings: of the method.
        tower: for online features; bottleneck adapters are attached to it. None where features
            come from the cache.
        tower_width: C; needed without a tower only.

    Attributes:
        dropout_seed: together with an item's id it decides that item's dropout masks; change it
            with every pass over the data, for example to derive_seed(seed, "dropout", epoch).

    Raises:
        SettingsError: the language model has another layout, or the scales do not fit the tower.
    """

    def __init__(
        self,
        llm: Any,
        settings: AdemSettings,
        tower: VisionTower | None = None,
        *,
        tower_width: int | None = None,
    ) -> None:
        super().__init__()
        if tower is None and tower_width is None:
            raise ValueError("tower_width is needed where there is no tower")
        self.settings = settings
        self.llm: Any = llm.eval().requires_grad_(False)
        self.tower = tower
        self.adapter = AdemAdapter(
            settings,
            llm_width=llm.get_input_embeddings().embedding_dim,
            tower_width=tower.width if tower is not None else int(tower_width or 0),
        )
        if tower is not None:
            self.adapter.check_grid(tower.num_grid_tokens)
            tower.attach_adapters(settings.clip_adapter)
        self._context = FusionContext(query_from=settings.query_from, add_to=settings.add_to)
        self._attachment = attach(llm, self._context) if settings.fusion != "none" else None
        self._has_checkpointing = False
        self.dropout_seed = 0

    def forward(self, batch: Batch, visual: Tensor | None) -> LabelledLogits:
        """Return the predictions that are scored; see `labelled_logits`."""
        return self.labelled_logits(batch, visual)

    def labelled_logits(self, batch: Batch, visual: Tensor | None) -> LabelledLogits:
        """Predict the scored tokens; only their positions go through the output layer.

        Args:
            batch: padded on the right; padding is not masked, as no row attends to its right.
            visual: features (B_img, 1 + G, C) or pixels (B_img, 3, H, W) of the rows with an
                image, in row order; None without any.
        """
        hidden_states = self.hidden_states(batch, visual)  # (B, T, d)
        is_scored = batch.labels[:, 1:] != IGNORED_LABEL
        rows, places = is_scored.nonzero(as_tuple=True)  # (M,), (M,)
        targets = batch.labels[rows, places + 1]
        device = hidden_states.device
        rows, places = rows.to(device), places.to(device)
        return LabelledLogits(self._logits(hidden_states[rows, places]), targets.to(device), rows)

    def next_token_logits(self, batch: Batch, visual: Tensor | None) -> Tensor:
        """Predict the token behind each row's last one: (B, V). See `labelled_logits`."""
        hidden_states = self.hidden_states(batch, visual)
        rows = torch.arange(len(hidden_states), device=hidden_states.device)
        return self._logits(hidden_states[rows, batch.lengths.to(rows.device) - 1])

    def hidden_states(self, batch: Batch, visual: Tensor | None) -> Tensor:
        """Return the states behind the final norm, (B, T, d). See `labelled_logits`."""
        seeds = self._dropout_seeds(batch.item_ids)
        with self.fused(visual, batch.has_image, dropout_seeds=seeds) as prompt:
            embeddings = self.embed(batch.input_ids, batch.slot_start, prompt.slots)
            return self.decode(embeddings)[0]

    @contextmanager
    def fused(
        self,
        visual: Tensor | None,
        has_image: Tensor,
        *,
        dropout_seeds: Sequence[int] | None = None,
        rows_per_item: int = 1,
    ) -> Iterator[VisualPrompt]:
        """Open a block in which the language model sees a batch's images.

        The block may hold any number of calls of `embed` and `decode` on the same rows, as
        generation with a cache needs.

        Args:
            visual: as for `labelled_logits`.
            has_image: (B,) bool.
            dropout_seeds: one for each row, in training.
            rows_per_item: rows of the language model, side by side, that see each item's image,
                as the beams of a search do.

        Yields:
            The prompt, for B rows; its `slots` are to be given to `embed`.

        Raises:
            ValueError: pixels are given but there is no tower, or the rows do not match.
        """
        features = self._encode(visual, has_image, dropout_seeds)
        prompt = self.adapter.prompt(features, has_image)
        fuse = self.adapter.fuse_function(
            prompt.repeated(rows_per_item),
            dtype=self._compute_dtype(),
            dropout_seeds=dropout_seeds,
        )
        if fuse is None:
            yield prompt
            return
        with self._context.active(fuse):
            yield prompt

    def embed(self, input_ids: Tensor, slot_start: Tensor, slots: Tensor | None) -> Tensor:
        """Embed token ids and put the image vectors into their slots.

        Args:
            input_ids: (B, T).
            slot_start: (B,), place of a row's first slot; -1 without an image. Slots that lie
                outside of the row are left out.
            slots: (B_img, S, d), for the rows with slots, in row order; None without any.

        Returns:
            (B, T, d), dtype of the language model.
        """
        embeddings: Tensor = self.llm.get_input_embeddings()(input_ids.to(self.device))
        if slots is None:
            return embeddings
        rows = (slot_start >= 0).nonzero()  # (B_img, 1)
        places = slot_start[rows] + torch.arange(slots.shape[1], device=rows.device)  # (B_img, S)
        is_inside = places < input_ids.shape[1]
        chosen = is_inside.flatten().nonzero().squeeze(1).to(self.device)
        rows = rows.expand_as(places)[is_inside].to(self.device)
        vectors = slots.flatten(0, 1)[chosen].to(embeddings.dtype)
        return embeddings.index_put((rows, places[is_inside].to(self.device)), vectors)

    def decode(
        self,
        embeddings: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
    ) -> tuple[Tensor, Any]:
        """Run the language model without its output layer, inside a `fused` block.

        Args:
            embeddings: (B, T, d), of the tokens that are not in the cache yet.
            attention_mask: (B, cached + T), 1 for tokens and 0 for padding; None for causal
                attention over all.
            position_ids: (B, T); None counts from the cache's length. With padding on the left
                they must be given.
            past_key_values: cache that an earlier call returned.
            use_cache: whether to return a cache.

        Returns:
            The states behind the final norm, (B, T, d), and the cache or None.
        """
        output = self.llm.model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        return output.last_hidden_state, output.past_key_values

    def last_logits(self, hidden_states: Tensor) -> Tensor:
        """Predict the token behind the last position of each row: (B, V) of (B, T, d)."""
        return self._logits(hidden_states[:, -1])

    @torch.no_grad()
    def fusion_scores(self, batch: Batch, visual: Tensor | None) -> FusionScores:
        """Return which visual tokens each text token keeps in evaluation, in every layer.

        Raises:
            SettingsError: the run has no adaptive fusion.
        """
        if self.settings.fusion != "adem":
            raise SettingsError(f"method.fusion: {self.settings.fusion} has no scores to show")
        scores: list[Tensor] = []
        dtype = self._compute_dtype()
        with self.fused(visual, batch.has_image) as prompt:
            fuse = self.adapter.fuse_function(prompt, dtype=dtype, dropout_seeds=None)
            if fuse is None or prompt.keys is None:
                raise SettingsError("method.fusion: none has no scores to show")
            keys, plain_fuse = prompt.keys.to(dtype), fuse

            def record(queries: Tensor, target: Tensor, layer: int) -> Tensor:
                scores.append(visual_scores(queries, keys, phi=self.settings.phi))
                return plain_fuse(queries, target, layer)

            with self._context.active(record):
                self.decode(self.embed(batch.input_ids, batch.slot_start, prompt.slots))
        stacked = torch.stack(scores).float()  # (L, B, T, N)
        gamma, drop_by = self.settings.gamma_in_evaluation, self.settings.drop_by
        return FusionScores(stacked, keep_mask(stacked, gamma=gamma, by=drop_by))

    def named_trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the trained parameters by name, in a fixed order.

        Names are those of the adapter file: `key_table`, `value_table`, `grid_projection.*`,
        `cls_projection.*`, and with a tower `clip_adapters.<block>.*`.
        """
        named = list(self.adapter.named_parameters())
        if self.tower is not None:
            named += [
                (f"{CLIP_ADAPTERS}.{name}", parameter)
                for name, parameter in self.tower.adapters.named_parameters()
            ]
        return named

    def move_adapter(self, device: torch.device) -> None:
        """Bring the trained parts to the device where the frozen ones are already."""
        self.adapter.to(device)
        if self.tower is not None:
            self.tower.adapters.to(device)

    def initialize(self, seed: int) -> None:
        """Draw all trained parameters anew; each depends on `seed` and its own name only."""
        self.adapter.initialize(seed)
        if self.tower is not None:
            self.tower.initialize_adapters(seed)

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """Return copies of the trained parameters on the CPU, by name."""
        return {
            name: parameter.detach().cpu().clone()
            for name, parameter in self.named_trainable_parameters()
        }

    @torch.no_grad()
    def load_adapter_state_dict(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Set all trained parameters; nothing is changed when something does not fit.

        Args:
            state: exactly one tensor for each trained parameter.
            source: where it comes from, for the error.

        Raises:
            WeightsError: lists names that are missing or not known, and wrong shapes.
        """
        parameters = dict(self.named_trainable_parameters())
        findings = [f"{name}: missing" for name in parameters if name not in state]
        findings += [f"{name}: not part of this model" for name in state if name not in parameters]
        findings += [
            f"{name}: shape {tuple(state[name].shape)}, expected {tuple(parameter.shape)}"
            for name, parameter in parameters.items()
            if name in state and state[name].shape != parameter.shape
        ]
        if findings:
            remedy = "Use the settings (method, backbones, features) that it was trained with."
            raise WeightsError(list_findings(f"{source}: does not fit the model", findings, remedy))
        for name, parameter in parameters.items():
            parameter.copy_(state[name])

    def enable_checkpointing(self) -> None:
        """Recompute each decoder layer in the backward pass instead of keeping its activations.

        Non-reentrant, because a reentrant recomputation would not find the images again.
        """
        options = {"use_reentrant": False, "context_fn": self._checkpoint_contexts}
        # The second name is that of the first releases of transformers 5.
        enable = getattr(self.llm, "activation_checkpointing_enable", None)
        (enable or self.llm.gradient_checkpointing_enable)(options)
        self._has_checkpointing = True
        self.train(self.training)

    def _checkpoint_contexts(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of a checkpointed layer's forward pass and of its recomputation."""
        if self._attachment is None:
            return nullcontext(), present_arithmetic()
        forward, images = self._context.checkpoint_contexts()
        return forward, _both(present_arithmetic(), images)

    def detach(self) -> None:
        """Take fusion and adapters off: language model and tower are bit-identical to before."""
        if self._attachment is not None:
            self._attachment.detach()
        if self.tower is not None:
            self.tower.detach_adapters()

    def train(self, mode: bool = True) -> "VisionLanguageModel":
        """Switch dropout in the trained parts; the frozen models stay in evaluation mode."""
        super().train(mode)
        self.llm.eval()
        if self.tower is not None:
            self.tower.eval()
        if self._has_checkpointing:
            # transformers checkpoints a layer only while its own flag says training; the modules
            # inside it stay in evaluation mode.
            for layer in decoder_layers(self.llm):
                layer.training = mode
        return self

    @property
    def device(self) -> torch.device:
        """Where the language model's embeddings are."""
        device: torch.device = self.llm.get_input_embeddings().weight.device
        return device

    def _logits(self, hidden_states: Tensor) -> Tensor:
        logits: Tensor = self.llm.get_output_embeddings()(hidden_states)
        return logits

    def _encode(
        self, visual: Tensor | None, has_image: Tensor, dropout_seeds: Sequence[int] | None
    ) -> Tensor | None:
        if visual is None:
            return None
        visual = visual.to(self.device)
        if visual.ndim != 4:
            return visual
        if self.tower is None:
            raise ValueError("pixels are given, but the model has no tower; give features")
        if dropout_seeds is not None:
            shown = zip(dropout_seeds, has_image.tolist(), strict=True)
            dropout_seeds = [seed for seed, is_shown in shown if is_shown]
        return self.tower.encode(visual, dropout_seeds=dropout_seeds)

    def _compute_dtype(self) -> torch.dtype:
        kind = self.device.type
        # The device `meta` has no autocast, and is asked about it in counts at full size.
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            return torch.get_autocast_dtype(kind)
        dtype: torch.dtype = self.llm.get_input_embeddings().weight.dtype
        return dtype

    def _dropout_seeds(self, item_ids: Sequence[str]) -> list[int] | None:
        if not self.training:
            return None
        return [derive_seed(self.dropout_seed, item_id) for item_id in item_ids]


@contextmanager
def _both(
    outer: AbstractContextManager[None], inner: AbstractContextManager[None]
) -> Iterator[None]:
    with outer, inner:
        yield


def build_model(run: RunSettings, *, device: torch.device | None = None) -> VisionLanguageModel:
    """Load a run's frozen models, and attach a newly initialised adapter.

    Args:
        run: its settings.
        device: of all parts; None for the one that `ademvl.machine.devices` chooses.

    Raises:
        SettingsError: the settings do not fit the models.
        WeightsError: a frozen model is missing or damaged.
    """
    device = device or compute_device(run.backbones)
    shape = tower_shape(run.backbones)
    is_online = run.features.mode == "online"
    model = VisionLanguageModel(
        load_llm(run.backbones, device=None if device.type == "cpu" else device),
        as_adem(run.method),
        load_tower(run.backbones).to(device) if is_online else None,
        tower_width=shape.width,
    )
    model.move_adapter(device)
    model.adapter.check_grid(shape.num_grid_tokens)
    model.initialize(derive_seed(run.seed, "adapter"))
    return model
