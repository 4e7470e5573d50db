"""Protects the whole model: equivalences, frozen parts, settings, precision, checkpointing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import BackboneSettings
from ademvl.data.collate import collate
from ademvl.data.rows import TokenizedExample
from ademvl.errors import SettingsError, WeightsError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.build import build_model
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.vision.tower import TowerShape, load_tower
from tests import tiny
from tests.random_decoders import random_decoder

VOCABULARY, WIDTH, TOWER_WIDTH, GRID = 40, 16, 16, 16
TOWER_SHAPE = TowerShape(width=16, num_blocks=3, image_size=8, num_grid_tokens=GRID, output_width=8)
SETTINGS = AdemSettings(
    scales=(16, 4),
    projection_width=4,
    alpha=0.5,
    beta=0.5,
    gamma=0.3,
    clip_adapter=ClipAdapterSettings(dim=2),
)
LENGTHS = (7, 12, 5, 9, 12, 6, 8, 10)
HAS_IMAGE = (True, False, True, True, False, True, False, True)
FP32_TOLERANCE = 2e-5  # other order of sums, after two layers
BF16_TOLERANCE = 0.15  # 8 bits; logits are of order 1


def _llm():
    return random_decoder(vocabulary=VOCABULARY, width=WIDTH)


def _fill(model: VisionLanguageModel) -> VisionLanguageModel:
    """Give every trained tensor values that matter, each from its own name."""
    state = {
        name: 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)))
        for name, p in model.named_trainable_parameters()
    }
    model.load_adapter_state_dict(state, source="test")
    return model


def _model(settings: AdemSettings = SETTINGS, tower=None) -> VisionLanguageModel:
    return _fill(VisionLanguageModel(_llm(), settings, tower, tower_shape=TOWER_SHAPE)).eval()


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> BackboneSettings:
    weights = tiny.make_tower(tmp_path_factory.mktemp("tower"))
    return BackboneSettings(tower=tiny.TOWER, tower_weights=str(weights))


def _rows(num_slots: int = 1) -> list[TokenizedExample]:
    rows = []
    for number, (length, has_image) in enumerate(zip(LENGTHS, HAS_IMAGE, strict=True)):
        ids = (np.arange(length) * (number + 3) % (VOCABULARY - 1) + 1).astype(np.int32)
        labels = np.where(np.arange(length) >= length - 2, ids, -100).astype(np.int32)
        rows.append(
            TokenizedExample(
                item_id=str(number),
                ids=np.insert(ids, 2, [0] * num_slots if has_image else []).astype(np.int32),
                labels=np.insert(labels, 2, [-100] * num_slots if has_image else []),
                slot_start=2 if has_image and num_slots else -1,
                num_slots=num_slots,
                image=Path(str(number)) if has_image else None,
                is_shortened=False,
            )
        )
    return rows


def _batch(numbers=range(8), *, num_slots: int = 1, trim: bool = False):
    rows = _rows(num_slots)
    return collate([rows[number] for number in numbers], trim_after_labels=trim)


def _features(numbers=range(8)):
    shown = [number for number in numbers if HAS_IMAGE[number]]
    generator = torch.Generator().manual_seed(5)
    everything = torch.randn(8, 1 + GRID, TOWER_WIDTH, generator=generator)
    return everything[shown] if shown else None


def _loss(model, batch, visual):
    logits, targets, _ = model.labelled_logits(batch, visual)
    return F.cross_entropy(logits, targets)


def _gradients(model, batch, visual):
    model.zero_grad(set_to_none=True)
    _loss(model, batch, visual).backward()
    return {name: p.grad for name, p in model.named_trainable_parameters()}


@torch.no_grad()
def test_batch_size_one_equals_eight():
    model = _model()
    together = model.next_token_logits(_batch(), _features())
    for number in range(8):
        alone = model.next_token_logits(_batch([number]), _features([number]))
        torch.testing.assert_close(together[number], alone[0], atol=FP32_TOLERANCE, rtol=0)


def test_gradients_of_one_pass_equal_those_of_eight():
    model = _model()
    together = _gradients(model, _batch(), _features())
    model.zero_grad(set_to_none=True)
    for number in range(8):
        (_loss(model, _batch([number]), _features([number])) / 8).backward()
    # Every row has two scored tokens, so rows weigh the same in the mean.
    for name, parameter in model.named_trainable_parameters():
        torch.testing.assert_close(parameter.grad, together[name], atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_labelled_logits_are_those_of_all_positions():
    model, batch, visual = _model(), _batch(trim=True), _features()
    predictions = model.labelled_logits(batch, visual)
    full = model.llm.lm_head(model.hidden_states(batch, visual))
    expected = [
        (row, full[row, place], batch.labels[row, place + 1])
        for row in range(8)
        for place in range(batch.labels.shape[1] - 1)
        if batch.labels[row, place + 1] != -100
    ]
    assert len(expected) == len(predictions.targets) == 16
    assert predictions.rows.tolist() == [row for row, _, _ in expected]
    assert predictions.targets.tolist() == [int(target) for _, _, target in expected]
    logits = torch.stack([logits for _, logits, _ in expected])
    torch.testing.assert_close(predictions.logits, logits, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_padding_has_no_influence():
    model, rows, visual = _model(), _rows(), _features([2])
    alone = model.next_token_logits(collate([rows[2]], trim_after_labels=False), visual)
    padded = collate([rows[2], rows[4]], trim_after_labels=False)
    assert padded.input_ids.shape[1] > len(rows[2].ids)
    together = model.next_token_logits(padded, visual)
    torch.testing.assert_close(together[0], alone[0], atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_text_only_question_still_gets_table_fusion():
    model, batch = _model(), _batch([1, 4])
    logits = model.next_token_logits(batch, None)
    model.method.value_table.add_(0.5)
    assert not torch.allclose(model.next_token_logits(batch, None), logits, atol=1e-3)


def test_text_only_batches_leave_the_projections_without_gradient():
    gradients = _gradients(_model(), _batch([1, 4]), None)
    assert {name for name, gradient in gradients.items() if gradient is not None} == {
        "key_table",
        "value_table",
    }


def test_frozen_parts_get_no_gradient_and_do_not_move(backbones):
    model = _model(tower=load_tower(backbones)).train()
    pixels = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    gradients = _gradients(model, _batch(), pixels)
    missing = {name for name, gradient in gradients.items() if gradient is None}
    assert missing == {"clip_adapters.2.down.weight", "clip_adapters.2.up.weight"}
    trained = {id(p) for _, p in model.named_trainable_parameters()}
    for parameter in model.parameters():
        assert parameter.requires_grad == (id(parameter) in trained)
        assert id(parameter) in trained or parameter.grad is None


@torch.no_grad()
def test_cached_features_equal_online_ones_with_a_frozen_tower(backbones):
    pixels = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    features = load_tower(backbones).encode(pixels)
    cached = VisionLanguageModel(_llm(), SETTINGS, tower_shape=TOWER_SHAPE).eval()
    online = VisionLanguageModel(_llm(), SETTINGS, load_tower(backbones)).eval()
    cached.initialize(0)
    online.initialize(0)  # the adapters inside the tower start without effect
    expected = cached.next_token_logits(_batch(), features)
    assert torch.equal(online.next_token_logits(_batch(), pixels), expected)


@pytest.mark.parametrize(
    "changes", [{}, {"query_from": "mhsa_in", "add_to": "mlp_in"}, {"fusion": "memvp"}], ids=str
)
def test_checkpointing_changes_nothing(changes, backbones):
    settings = replace(SETTINGS, **changes)
    pixels = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    plain, checkpointed = (_model(settings, load_tower(backbones)).train() for _ in range(2))
    checkpointed.enable_checkpointing()
    recomputed = []
    hook = checkpointed.llm.model.layers[0].input_layernorm.register_forward_hook(
        lambda *_: recomputed.append(True)
    )
    expected = _gradients(plain, _batch(), pixels)
    gradients = _gradients(checkpointed, _batch(), pixels)
    hook.remove()
    assert len(recomputed) == 2
    for name, gradient in expected.items():
        if gradient is None:
            assert gradients[name] is None
        else:
            torch.testing.assert_close(gradients[name], gradient, atol=FP32_TOLERANCE, rtol=0)
    with torch.no_grad():
        assert not checkpointed.eval().llm.model.layers[0].training
        checkpointed.next_token_logits(_batch(), pixels)


def test_checkpointed_backward_passes_find_their_own_images():
    model = _model().train()
    expected = {}
    for numbers in ([0, 1, 2], [3, 4, 5]):
        for name, gradient in _gradients(model, _batch(numbers), _features(numbers)).items():
            expected[name] = expected.get(name, 0) + gradient
    model.enable_checkpointing()
    model.zero_grad(set_to_none=True)
    losses = [_loss(model, _batch(n), _features(n)) for n in ([0, 1, 2], [3, 4, 5])]
    sum(losses).backward()  # both forward passes are over before the first backward pass
    for name, parameter in model.named_trainable_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=FP32_TOLERANCE, rtol=0)


VARIANTS = {
    "usual": {},
    "memvp": {"fusion": "memvp"},
    "no fusion": {"fusion": "none"},
    "no fusion, tokens": {"fusion": "none", "visual_tokens": 4},
    "no threshold": {"gamma": 0.0},
    "one scale": {"scales": (16,)},
    "other order": {"scales": (4, 16)},
    "max pooling": {"pool": "max"},
    "paper's order": {"pool_order": "project_then_pool"},
    "no cls": {"cls": False},
    "tokens": {"visual_tokens": 16},
    "tokens, no cls": {"visual_tokens": 4, "cls": False},
    "alpha": {"alpha": 0.2},
    "beta": {"beta": 0.1},
    **{phi: {"phi": phi} for phi in ("identity", "softmax", "relu", "elu", "silu_positive")},
    "mhsa_in": {"query_from": "mhsa_in", "add_to": "mhsa_in"},
    "mhsa": {"query_from": "mhsa_in", "add_to": "mhsa_out"},
    "mhsa_out": {"query_from": "mhsa_out", "add_to": "mhsa_out"},
    "mlp_in": {"query_from": "mlp_in", "add_to": "mlp_in"},
    "mlp_out": {"query_from": "mlp_out", "add_to": "mlp_out"},
    "mhsa to mlp": {"query_from": "mhsa_out", "add_to": "mlp_out"},
}


def test_all_ablations_run_train_all_they_have_and_differ():
    results = {}
    for label, changes in VARIANTS.items():
        settings = replace(SETTINGS, **changes)
        batch = _batch(num_slots=settings.text_places.with_image)
        model = _model(settings).train()
        gradients = _gradients(model, batch, _features())
        assert gradients
        untrained = {n for n, g in gradients.items() if g is None or not g.any()}
        assert untrained == set(), label
        with torch.no_grad():
            results[label] = model.eval().next_token_logits(batch, _features())
    labels = list(results)
    for one in labels:
        for other in labels[: labels.index(one)]:
            assert not torch.allclose(results[one], results[other], atol=1e-4), (one, other)


@torch.no_grad()
def test_slots_are_filled_in_place_and_cut_with_the_row():
    model = _model(replace(SETTINGS, visual_tokens=4))
    batch, features = _batch([0, 1], num_slots=5), _features([0, 1])
    with model.opened(features, batch.has_image) as opened:
        assert opened.with_image.shape == (1, 5, WIDTH)
        embeddings = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
        narrow = model.embed(batch.input_ids[:, :4], batch.slot_start, opened.with_image)
    plain = model.llm.get_input_embeddings()(batch.input_ids)
    assert torch.equal(embeddings[0, 2:7], opened.with_image[0])
    assert torch.equal(embeddings[0, :2], plain[0, :2])
    assert torch.equal(embeddings[0, 7:], plain[0, 7:])
    assert torch.equal(embeddings[1], plain[1])
    assert torch.equal(narrow, embeddings[:, :4])


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_language_model_with_fp32_adapters(autocast):
    # Without a threshold, which would turn rounding into swaps of scores.
    settings, batch, features = replace(SETTINGS, gamma=0.0), _batch(), _features()
    exact = _model(settings).train()
    expected = _gradients(exact, batch, features)
    half = VisionLanguageModel(_llm().bfloat16(), settings, tower_shape=TOWER_SHAPE)
    half = _fill(half).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = half.labelled_logits(batch, features).logits
        gradients = _gradients(half, batch, features)
    assert logits.dtype == torch.bfloat16
    reference = exact.labelled_logits(batch, features).logits
    torch.testing.assert_close(logits.float(), reference, atol=BF16_TOLERANCE, rtol=0)
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        similarity = F.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
        assert similarity > 0.9, name


def test_dropout_follows_item_and_seed_and_is_off_in_evaluation(backbones):
    adapter = ClipAdapterSettings(dim=2, dropout=0.5)
    model = _model(replace(SETTINGS, clip_adapter=adapter), load_tower(backbones)).train()
    pixels = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def logits(numbers, shown):
        return model.next_token_logits(_batch(numbers), pixels[shown])

    first = logits([0, 2, 3], [0, 1, 2])
    assert torch.equal(first, logits([0, 2, 3], [0, 1, 2]))
    alone = logits([2], [1])
    torch.testing.assert_close(first[1], alone[0], atol=FP32_TOLERANCE, rtol=0)
    model.dropout_seed = 1
    assert not torch.allclose(first, logits([0, 2, 3], [0, 1, 2]), atol=1e-4)
    model.eval()
    evaluated = logits([0, 2, 3], [0, 1, 2])
    model.dropout_seed = 0
    assert torch.equal(evaluated, logits([0, 2, 3], [0, 1, 2]))


def test_frozen_models_stay_in_evaluation_mode(backbones):
    model = _model(tower=load_tower(backbones)).train()
    assert model.training
    assert model.method.training
    assert not any(module.training for module in model.llm.modules())
    assert not any(module.training for module in model.tower.modules())


@torch.no_grad()
def test_detaching_gives_the_base_model_back(backbones):
    llm, token_ids = _llm().eval(), torch.tensor([[1, 4, 7]])
    logits, names = llm(token_ids).logits, list(llm.state_dict())
    model = _fill(VisionLanguageModel(llm, SETTINGS, load_tower(backbones)))
    model.detach()
    assert torch.equal(llm(token_ids).logits, logits)
    assert list(llm.state_dict()) == names


def test_adapter_state_loads_strictly_or_not_at_all():
    model = _model()
    state = model.adapter_state_dict()
    assert list(state) == [
        "key_table",
        "value_table",
        "grid_projection.down.weight",
        "grid_projection.down.bias",
        "grid_projection.up.weight",
        "grid_projection.up.bias",
        "cls_projection.down.weight",
        "cls_projection.down.bias",
        "cls_projection.up.weight",
        "cls_projection.up.bias",
    ]
    wrong = {name: tensor + 1 for name, tensor in state.items() if name != "value_table"}
    wrong["key_table"] = wrong["key_table"][:3]
    wrong["foreign"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        model.load_adapter_state_dict(wrong, source="a file")
    message = str(caught.value)
    assert "a file: does not fit the model (3 found)" in message
    assert "value_table: missing" in message
    assert "foreign: not part of this model" in message
    assert "key_table: shape (3, 16), expected (20, 16)" in message
    after = model.adapter_state_dict()
    assert all(torch.equal(after[name], state[name]) for name in state)


@torch.no_grad()
def test_fusion_scores_show_what_each_token_keeps():
    model, batch, visual = _model(), _batch(), _features()
    scores, is_kept = model.fusion_scores(batch, visual)
    assert scores.shape == is_kept.shape == (2, 8, batch.input_ids.shape[1], 20)
    assert is_kept.sum(dim=-1).eq(20 - int(0.3 * 20)).all()
    assert torch.where(is_kept, scores, torch.inf).amin() >= scores[~is_kept].min()
    with pytest.raises(SettingsError, match="adem has no scores to show"):
        _model(replace(SETTINGS, fusion="memvp")).fusion_scores(batch, visual)


def test_callers_mistakes_are_refused():
    with pytest.raises(ValueError, match="tower_shape"):
        VisionLanguageModel(_llm(), SETTINGS)
    model, pixels = _model(), torch.zeros(5, 3, 8, 8)
    with pytest.raises(ValueError, match="has no tower"):
        model.next_token_logits(_batch(), pixels)
    with pytest.raises(ValueError, match="features of 5 images for 1 rows"):
        model.next_token_logits(_batch([0, 1]), _features())


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_a_run_is_built_from_its_settings(tmp_path, mode):
    run = tiny.make_run(tmp_path)
    run = replace(run, features=replace(run.features, mode=mode))
    model, again = build_model(run), build_model(run)
    other = build_model(replace(run, seed=1))
    assert (model.tower is not None) == (mode == "online")
    state = model.adapter_state_dict()
    assert ("clip_adapters.2.up.weight" in state) == (mode == "online")
    assert all(torch.equal(state[n], t) for n, t in again.adapter_state_dict().items())
    assert not torch.equal(state["key_table"], other.method.key_table)
    too_fine = replace(run, method=replace(run.method, scales=(64,)))
    with pytest.raises(SettingsError, match="64 is not possible with a tower of 16"):
        build_model(too_fine)


@torch.no_grad()
def test_fusion_scores_are_those_of_evaluation():
    model = _model(replace(SETTINGS, drop_in_evaluation=False))
    assert model.fusion_scores(_batch(), _features()).is_kept.all()
    scores, is_kept = _model(replace(SETTINGS, drop_by="magnitude")).fusion_scores(
        _batch(), _features()
    )
    assert scores[is_kept].abs().max() > scores[~is_kept].abs().max()
    assert is_kept.sum(dim=-1).eq(20 - int(0.3 * 20)).all()
