"""The vision-language model: a frozen language model and tower, joined by a trained method.

Everything here takes batches as `ademvl.data.collate` makes them and moves them to the model's
device itself. Precision is the caller's: the adapter is kept in fp32, and what its pass holds is
cast once per forward pass to the dtype in which the language model computes (that of autocast where
it is on).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from ademvl.config.method import MethodSettings
from ademvl.data.collate import Batch, label_ends
from ademvl.data.passes import image_tokens
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import SettingsError
from ademvl.llm.kv_cache import cache_name
from ademvl.machine.cpu_kernels import present_arithmetic
from ademvl.machine.precision import compute_dtype
from ademvl.methods.base import DecoderShape, FusionScores, rows_with_image
from ademvl.methods.registry import build_method
from ademvl.methods.sites import Pass, decoder_layers
from ademvl.randomness import derive_seed
from ademvl.systems.trained import LabelledLogits, TrainableModel
from ademvl.vision.tower import TowerShape, VisionTower


class VisionLanguageModel(TrainableModel):
    """A method on a frozen decoder of transformers and a frozen vision tower.

    The language model and the tower stay in evaluation mode; `train` and `eval` switch dropout in
    the method alone. New trained tensors are uninitialised: call `initialize`, or load a state.

    Args:
        llm: causal language model with layers `llm.model.layers[i]`.
        tower: for online features, which then takes pixels; None where features are given, as from
            the cache.
        tower_shape: sizes of the tower that features come from; needed without a tower only.
        empty_picture: its features of an empty picture, (1, N, C); needed without a tower, where
            the method's settings say `sees_empty_picture`.

    Attributes:
        method: owns everything that is trained.
        dropout_seed: together with an item's id it decides that item's dropout masks; change it
            with every epoch, for example to derive_seed(seed, "dropout", epoch).

    Raises:
        SettingsError: the language model has another layout, or the settings do not fit the tower.
    """

    def __init__(
        self,
        llm: Any,
        settings: MethodSettings,
        tower: VisionTower | None = None,
        *,
        tower_shape: TowerShape | None = None,
        empty_picture: Tensor | None = None,
    ) -> None:
        super().__init__()
        shape = tower.shape if tower is not None else tower_shape
        if shape is None:
            raise ValueError("tower_shape is needed where there is no tower")
        self.llm: Any = llm.eval().requires_grad_(False)
        self.tower = tower
        self.method = build_method(
            settings,
            llm=DecoderShape.of(llm.config),
            tower=shape,
            trains_tower=tower is not None,
        )
        self._attachment = self.method.attach(llm, tower)
        if not settings.sees_empty_picture:
            empty_picture = None
        elif tower is not None:
            empty_picture = tower.encode_empty(settings.tower_states)
        elif empty_picture is None:
            raise ValueError("empty_picture is needed where there is no tower")
        self.register_buffer("_empty_picture", empty_picture, persistent=False)
        self._cache_name = cache_name(llm.model)
        self._has_checkpointing = False
        self.dropout_seed = 0

    def forward(self, batch: Batch, visual: Tensor | None) -> LabelledLogits:
        """Return the predictions that are scored; see `labelled_logits`."""
        return self.labelled_logits(batch, visual)

    def labelled_logits(self, batch: Batch, visual: Tensor | None) -> LabelledLogits:
        """Predict the scored tokens; only their positions go through the output layer.

        Args:
            batch: padded on the right; padding is not masked, as no row attends to its right.
            visual: of the rows with an image, in row order: pixels (B_img, 3, H, W) where the model
                has a tower, else features (B_img, N, C) as the method reads them; None without any.
        """
        hidden_states, opened = self._decoded(batch, visual)  # (B, T, d)
        self.penalties = opened.penalty(label_ends(batch.labels)) if self.training else None
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
        return self._decoded(batch, visual)[0]

    def _decoded(self, batch: Batch, visual: Tensor | None) -> tuple[Tensor, Pass]:
        seeds = self._dropout_seeds(batch.item_ids)
        with self.opened(visual, batch.has_image, dropout_seeds=seeds) as opened:
            embeddings = self.embed(batch.input_ids, batch.slot_start, opened.with_image)
            return self.decode(embeddings)[0], opened

    @contextmanager
    def opened(
        self,
        visual: Tensor | None,
        has_image: Tensor,
        *,
        dropout_seeds: Sequence[int] | None = None,
        rows_per_item: int = 1,
    ) -> Iterator[Pass]:
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
            What the images are, for B rows; its `with_image` is to be given to `embed`.

        Raises:
            ValueError: pixels are given but there is no tower, or the rows do not match.
        """
        features = self._encode(visual, has_image, dropout_seeds)
        if self.method.settings.sees_empty_picture:
            features = self._with_empty_pictures(features, has_image)
        self.method.training_progress = self.training_progress
        opened = self.method.open(
            features, has_image, dtype=self._compute_dtype(), dropout_seeds=dropout_seeds
        )
        self._check_places(opened, has_image)
        with self._attachment.active(opened.repeated(rows_per_item)):
            yield opened

    def _check_places(self, opened: Pass, has_image: Tensor) -> None:
        """Refuse vectors that are not those for which the rows of text have places."""
        places, num_images = self.method.settings.text_places, int(has_image.sum())
        for what, vectors, rows, number in (
            ("before_begin", opened.before_begin, len(has_image), places.before_begin),
            ("with_image", opened.with_image, num_images, places.with_image),
        ):
            found = (0, 0) if vectors is None else tuple(vectors.shape[:2])
            if found != ((rows, number) if rows and number else (0, 0)):
                raise ValueError(
                    f"method {self.method.settings.name}: {what} holds {found[1]} vectors for each "
                    f"of {found[0]} rows; its text_places say {number}, for {rows} rows"
                )

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
        cache: Any = None,
        use_cache: bool = False,
    ) -> tuple[Tensor, Any]:
        """Run the language model without its output layer, inside an `opened` block.

        Args:
            embeddings: (B, T, d), of the tokens that are not in the cache yet.
            attention_mask: (B, cached + T), 1 for tokens and 0 for padding; None for causal
                attention over all.
            position_ids: (B, T); None counts from the cache's length. With padding on the left
                they must be given.
            cache: that an earlier call returned.
            use_cache: whether to return a cache.

        Returns:
            The states behind the final norm, (B, T, d), and the cache or None.
        """
        output = self.llm.model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **{self._cache_name: cache},
        )
        return output.last_hidden_state, getattr(output, self._cache_name)

    def last_logits(self, hidden_states: Tensor) -> Tensor:
        """Predict the token behind the last position of each row: (B, V) of (B, T, d)."""
        return self._logits(hidden_states[:, -1])

    @torch.no_grad()
    def fusion_scores(self, batch: Batch, visual: Tensor | None) -> FusionScores:
        """Return which visual tokens each text token keeps in evaluation, in every layer.

        Raises:
            SettingsError: the method has nothing to show.
        """

        def run(shown: Pass) -> None:
            with self._attachment.active(shown):
                self.decode(self.embed(batch.input_ids, batch.slot_start, shown.with_image))

        with self.opened(visual, batch.has_image) as opened:
            scores = self.method.scores(opened, run)
        if scores is None:
            name = self.method.settings.name
            raise SettingsError(f"method: {name} has no scores to show with these settings")
        return scores

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
        forward, images = self._attachment.checkpoint_contexts()
        return forward, _both(present_arithmetic(), images)

    def detach(self) -> None:
        """Take the method off: language model and tower are bit-identical to before."""
        self._attachment.detach()

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
    def image_tokens(self) -> int:
        """Tokens of text that take as long as an image of a batch; 0 where features are given."""
        if self.tower is None:
            return 0
        tower, llm = self.method.tower_shape, self.method.llm_shape
        return image_tokens(
            tower_tokens=1 + tower.num_grid_tokens,
            tower_width=tower.width,
            tower_blocks=tower.num_blocks,
            llm_width=llm.width,
            llm_layers=llm.layers,
        )

    def _logits(self, hidden_states: Tensor) -> Tensor:
        logits: Tensor = self.llm.get_output_embeddings()(hidden_states)
        return logits

    def _encode(
        self, visual: Tensor | None, has_image: Tensor, dropout_seeds: Sequence[int] | None
    ) -> Tensor | None:
        if visual is None:
            return None
        visual = visual.to(self.device, non_blocking=True)  # at once where it is not pinned
        if self.tower is None:
            if visual.ndim == 4:
                raise ValueError("pixels are given, but the model has no tower; give features")
            return visual
        if dropout_seeds is not None:
            shown = zip(dropout_seeds, has_image.tolist(), strict=True)
            dropout_seeds = [seed for seed, is_shown in shown if is_shown]
        return self.method.encode(
            self.tower, visual, dropout_seeds=dropout_seeds, has_image=has_image
        )

    def _with_empty_pictures(self, features: Tensor | None, has_image: Tensor) -> Tensor:
        """Return features of all rows in fp32, (B, N, C), of those with an image."""
        rows = rows_with_image(features, has_image).to(self.device)
        empty: Tensor = self._empty_picture.to(self.device)  # type: ignore[operator, assignment]
        everything = empty.float().expand(len(has_image), -1, -1)
        return everything if features is None else everything.index_copy(0, rows, features.float())

    def _compute_dtype(self) -> torch.dtype:
        return compute_dtype(self.device, self.llm.get_input_embeddings().weight.dtype)

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
