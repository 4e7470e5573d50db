"""ADEM-VL, MemVP and LaVIN; trained tensors are named as in their released files."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from plain.models import Llama, Tower

Trained = Mapping[str, Tensor]
_TOWER = "backbone.visual.transformer.resblocks"


class PlainMethod:
    """What the three have in common.

    Args:
        llm, tower: frozen.
        trained: tensors by their released names.
    """

    first_position_is_hidden = False

    def __init__(self, llm: Llama | None, tower: Tower | None, trained: Trained) -> None:
        self.llm, self.tower, self.trained = llm, tower, trained

    def tower_attention_input(self, block: int, normed: Tensor) -> Tensor:
        """Leave what goes into a block's attention as it is."""
        return normed

    def tower_branch(self, block: int, normed: Tensor) -> Tensor | float:
        """Add nothing to a block."""
        return 0.0

    def attention_input(self, layer: int, normed: Tensor) -> Tensor:
        """Leave what goes into a layer's attention as it is."""
        return normed

    def branch(self, layer: int, normed: Tensor, visual: Tensor) -> Tensor | float:
        """Add nothing to a layer."""
        return 0.0

    def loss(
        self, ids: Tensor, labels: Tensor, slots: Sequence[int], has_image: Tensor, pixels: Tensor
    ) -> Tensor:
        """Return the mean cross entropy of all scored tokens; 0 and -100 are no label.

        Args:
            ids: (B, T), with a place for every vector of the image.
            labels: (B, T).
            slots: first of these places in each row; -1 without any.
            has_image: (B,) bool.
            pixels: (B, 3, H, W), zeros for rows without an image.
        """
        raise NotImplementedError

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        labels = torch.where(labels == 0, -100, labels)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    def _fill(self, ids: Tensor, slots: Sequence[int], vectors: Tensor | None) -> Tensor:
        """Embed tokens, and put vectors (B, S, d) into rows with slots."""
        embeddings = self.llm.embed(ids).clone()
        if vectors is not None:
            for row, slot in enumerate(slots):
                if slot >= 0:
                    embeddings[row, slot : slot + vectors.shape[1]] = vectors[row]
        return embeddings

    def _bottleneck(self, name: str, states: Tensor) -> Tensor:
        down, up = (self.trained[f"{name}.fc{number}.weight"] for number in (1, 2))
        return F.linear(F.gelu(F.linear(states, down)), up)

    def _project(self, names: Sequence[str], states: Tensor) -> Tensor:
        first, second = (
            (self.trained[f"{name}.weight"], self.trained[f"{name}.bias"]) for name in names
        )
        return F.linear(F.silu(F.linear(states, *first)), *second)


class PlainAdem(PlainMethod):
    """ADEM-VL; `scales`, `alpha`, `beta` and `gamma` are set by whoever makes it."""

    scales: Sequence[int] = (256, 64)
    alpha, beta, gamma, tower_scale = 0.1, 0.01, 0.1, 0.1

    def tower_branch(self, block: int, normed: Tensor) -> Tensor | float:
        """Add a bottleneck of each block's normalised states."""
        name = f"{_TOWER}.{block}.adapter_mlp"
        if f"{name}.fc1.weight" not in self.trained:
            return 0.0
        return self.tower_scale * self._bottleneck(name, normed)

    def branch(self, layer: int, normed: Tensor, visual: Tensor) -> Tensor | float:
        """Fuse the image into a layer."""
        keys, values = (visual + self.trained[f"adapter_emb{number}"] for number in (1, 2))
        scores = F.silu(normed) @ F.silu(keys).transpose(1, 2)
        ordered = scores.sort(-1).values
        threshold = ordered[..., int(self.gamma * scores.shape[-1])].unsqueeze(-1)
        kept = torch.where(scores < threshold, torch.zeros_like(scores), scores)
        return self.alpha * (kept @ values)

    def loss(
        self, ids: Tensor, labels: Tensor, slots: Sequence[int], has_image: Tensor, pixels: Tensor
    ) -> Tensor:
        """See `PlainMethod.loss`."""
        number = len(self.tower.attentions) - 1
        states = self.tower.blocks(pixels, self, number=number)[-1]
        return self.loss_of_features(
            ids, labels, slots, has_image, self.tower.norm(states, "ln_post")
        )

    def loss_of_features(
        self, ids: Tensor, labels: Tensor, slots: Sequence[int], has_image: Tensor, features: Tensor
    ) -> Tensor:
        """The same with features (B, 1 + G, C) given."""
        visual, vectors = self._see(features, has_image)
        logits = self.llm.logits(self._fill(ids, slots, vectors), self, visual)
        return self._cross_entropy(logits, labels)

    @torch.inference_mode()
    def answers(
        self,
        ids: Tensor,
        is_token: Tensor,
        slots: Sequence[int],
        has_image: Tensor,
        features: Tensor,
    ) -> Tensor:
        """Return the most likely next tokens, (B,), of rows with padding in front."""
        visual, vectors = self._see(features, has_image)
        embeddings = self._fill(ids, slots, vectors)
        states = self.llm.decode(embeddings, self, visual, is_token=is_token)
        return self.llm.output(states[:, -1]).argmax(-1)

    def _see(self, features: Tensor, has_image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what every layer sees of the pictures, and the vectors in the text."""
        pooled = self._pool(features[:, 1:])
        visual = self._project(("adapter_proj.fc1", "adapter_proj.fc2"), pooled)
        visual = visual * self.beta * has_image[:, None, None]
        vectors = None
        if "adapter_proj_cls.fc1.weight" in self.trained:
            names = ("adapter_proj_cls.fc1", "adapter_proj_cls.fc2")
            vectors = self._project(names, features[:, :1])
        return visual, vectors

    def _pool(self, grid: Tensor) -> Tensor:
        side = round(grid.shape[1] ** 0.5)
        image = grid.transpose(1, 2).unflatten(-1, (side, side))
        pooled = [
            F.adaptive_avg_pool2d(image, round(scale**0.5)).flatten(2) for scale in self.scales
        ]
        return torch.cat(pooled, 2).transpose(1, 2)


class PlainMemvp(PlainMethod):
    """MemVP."""

    alpha, beta, tower_scale = 0.1, 0.01, 0.1

    def tower_branch(self, block: int, normed: Tensor) -> Tensor | float:
        """Add a bottleneck of each block's normalised states."""
        return self.tower_scale * self._bottleneck(f"{_TOWER}.{block}.adapter_mlp", normed)

    def branch(self, layer: int, normed: Tensor, visual: Tensor) -> Tensor | float:
        """Read the image in a layer's memory."""
        keys, values = (visual + self.trained[f"adapter_emb{number}"] for number in (1, 2))
        return self.alpha * (F.silu(normed @ keys.transpose(1, 2)) @ values)

    def loss(
        self, ids: Tensor, labels: Tensor, slots: Sequence[int], has_image: Tensor, pixels: Tensor
    ) -> Tensor:
        """See `PlainMethod.loss`."""
        number = len(self.tower.attentions) - 1
        states = self.tower.blocks(pixels, self, number=number)[-1]
        grid = self.tower.norm(states, "ln_post")[:, 1:]
        visual = self._project(("adapter_proj.fc1", "adapter_proj.fc2"), grid)
        visual = visual * self.beta * has_image[:, None, None]
        rows = self.trained["adapter_emb1"].shape[1]
        visual = F.pad(visual, (0, 0, 0, rows - visual.shape[1]))
        return self._cross_entropy(
            self.llm.logits(self._fill(ids, slots, None), self, visual), labels
        )


class PlainLavin(PlainMethod):
    """LaVIN, routed in the tower by the batch's first image, as its code does."""

    first_position_is_hidden = True
    temperature, scale, cls_every = 10.0, 1.0, 4

    def tower_attention_input(self, block: int, normed: Tensor) -> Tensor:
        """Adapt (1 + G, B, C), tokens first: index 0 of the second axis is the first image."""
        return self._routed(f"{_TOWER}.{block}.adapter_attn", normed, normed[:, 0])

    def attention_input(self, layer: int, normed: Tensor) -> Tensor:
        """Adapt (B, T, d) as the token of modality at position 0 says."""
        return self._routed(f"layers.{layer}.adapter_attn", normed, normed[:, 0])

    def _routed(self, name: str, states: Tensor, routed_by: Tensor) -> Tensor:
        def convolved(kind: str, inputs: Tensor, groups: int) -> Tensor:
            weight, bias = (
                self.trained[f"{name}.{kind}.weight"],
                self.trained[f"{name}.{kind}.bias"],
            )
            return F.conv1d(inputs, weight, bias, groups=groups)

        gate = self.trained[f"{name}.expert_weights.weight"]
        bias = self.trained[f"{name}.expert_weights.bias"]
        weights = torch.softmax(F.linear(routed_by, gate, bias) / self.temperature, -1)
        hidden = convolved("conv_A", states.transpose(1, 2), 1)
        first, second = (
            convolved(kind, hidden, 2).transpose(1, 2) for kind in ("conv_B", "conv_D")
        )
        first, second = first * weights[:, :1, None], second * weights[:, 1:, None]
        return states + self.scale * (first + second)

    def loss(
        self, ids: Tensor, labels: Tensor, slots: Sequence[int], has_image: Tensor, pixels: Tensor
    ) -> Tensor:
        """See `PlainMethod.loss`; the token of modality is put in front, and the end cut off."""
        blocks = self.tower.blocks(pixels, self, number=len(self.tower.attentions))
        cls = torch.stack(
            [states[:, 0] for states in blocks[self.cls_every - 1 :: self.cls_every]], 1
        )
        vectors = self._project(("adapter_proj.conv_A", "adapter_proj.conv_B"), cls)
        modality = self.trained["adapter_modality_embedding.weight"][has_image.long()][:, None]
        embeddings = torch.cat([modality, self._fill(ids, slots, vectors)], 1)
        labels = F.pad(labels, (1, 0))
        return self._cross_entropy(self.llm.logits(embeddings, self, None), labels)
