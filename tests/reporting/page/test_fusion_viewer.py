"""Protects the viewer of fusion maps: what it says, draws and explains is the same."""

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

VIEWER = "#fusion-maps .viewer"


def test_fusion_viewer_tells_what_it_shows(page: "Page") -> None:
    assert "“color”, all layers, 2 × 2: kept 75 %" in page.inner_text(VIEWER)
    page.click(f"{VIEWER} .layers button:nth-child(3)")
    assert "“color”, layer 2, 2 × 2: kept 75 %" in page.inner_text(VIEWER)
    page.click(f"{VIEWER} >> text=1 × 1 patches")
    assert "layer 2, 1 × 1: kept 100 %" in page.inner_text(VIEWER)
    pressed = page.eval_on_selector_all(
        f"{VIEWER} [aria-pressed=true]", "buttons => buttons.map((button) => button.innerText)"
    )
    assert pressed == ["color", "1 × 1 patches", "2 · 100 %"]
    page.click(f"{VIEWER} >> text=2 × 2 patches")
    page.click(f"{VIEWER} .layers button:nth-child(1)")


def test_legend_of_a_fusion_map_shows_what_is_drawn(page: "Page") -> None:
    page.click(f"{VIEWER} .layers button:nth-child(2)")
    canvas = page.locator(f"{VIEWER} canvas").first
    canvas.scroll_into_view_if_needed()
    box, pixels = canvas.bounding_box(), _pixels(canvas)
    half = pixels.shape[0] // 2
    told, drawn = [], []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        x = box["x"] + (column + 0.5) * box["width"] / 2
        page.mouse.move(x, box["y"] + (row + 0.5) * box["height"] / 2)
        told.append(page.inner_text(f"{VIEWER} .patch").partition(": ")[2])
        patch = pixels[row * half : (row + 1) * half, column * half : (column + 1) * half]
        drawn.append(_light_share(patch))
    # The legend has a dropped patch and the lowest, middle and highest score: each of these four.
    assert told == ["dropped", "score 0.2, kept", "score 0.3, kept", "score 0.4, kept"]
    legend = _legend(page)
    assert set(legend) == set(told)
    assert drawn == pytest.approx([legend[text] for text in told], abs=0.06)
    assert len({round(share, 1) for share in legend.values()}) == len(legend)
    page.click(f"{VIEWER} .layers button:nth-child(1)")
    assert "dropped by 2 of 2 layers" in _legend(page)


def test_picture_is_seen_in_its_colours_under_a_fusion_map(page: "Page") -> None:
    pixels = _pixels(page.locator(f"{VIEWER} canvas").first)
    kept_by_all = pixels[: pixels.shape[0] // 2, pixels.shape[1] // 2 :]
    assert np.median(kept_by_all, axis=(0, 1)) == pytest.approx([0, 0, 200], abs=6)


def _pixels(canvas: "Locator") -> np.ndarray:
    """Return what is seen of a canvas, (height, width, 3)."""
    picture = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    return np.asarray(picture).astype(int)


def _light_share(pixels: np.ndarray) -> float:
    """Return the share of pixels in the colour of dots and crosses."""
    return float((pixels > 235).all(axis=2).mean())


def _legend(page: "Page") -> dict[str, float]:
    """Return by its text how much of each sample in the legend is light."""
    rows = page.locator(f"{VIEWER} .legend li").all()
    return {row.inner_text().strip(): _light_share(_pixels(row.locator("canvas"))) for row in rows}
