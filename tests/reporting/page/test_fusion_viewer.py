"""Protects the viewer of fusion maps: what it says, draws and explains is the same."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIGHT_SHARE = """(pen, x, y, width, height) => {
    const { data } = pen.getImageData(x, y, width, height);
    let light = 0;
    for (let place = 0; place < data.length; place += 4) {
        light += data[place] > 235 && data[place + 1] > 235 && data[place + 2] > 235;
    }
    return light / (width * height);
}"""
SAMPLES = f"""() => {{
    const share = {LIGHT_SHARE};
    return [...document.querySelectorAll("#fusion-maps .legend li")].map((row) => {{
        const sample = row.querySelector("canvas");
        const pen = sample.getContext("2d");
        return [row.innerText.trim(), share(pen, 0, 0, sample.width, sample.height)];
    }});
}}"""
PATCHES = f"""() => {{
    const share = {LIGHT_SHARE};
    const canvas = document.querySelector("#fusion-maps .viewer canvas"), half = canvas.width / 2;
    const pen = canvas.getContext("2d");
    return [0, 1, 2, 3].map((patch) =>
        share(pen, (patch % 2) * half, Math.floor(patch / 2) * half, half, half));
}}"""


def test_fusion_viewer_tells_what_it_shows(page: "Page") -> None:
    viewer = "#fusion-maps .viewer"
    assert "“color”, all layers, 2 × 2: kept 75 %" in page.inner_text(viewer)
    page.click(f"{viewer} .layers button:nth-child(3)")
    assert "“color”, layer 2, 2 × 2: kept 75 %" in page.inner_text(viewer)
    page.click(f"{viewer} >> text=1 × 1 patches")
    assert "layer 2, 1 × 1: kept 100 %" in page.inner_text(viewer)
    pressed = page.eval_on_selector_all(
        f"{viewer} [aria-pressed=true]", "buttons => buttons.map((button) => button.innerText)"
    )
    assert pressed == ["color", "1 × 1 patches", "2 · 100 %"]
    page.click(f"{viewer} .layers button:nth-child(1)")
    page.click(f"{viewer} >> text=2 × 2 patches")


def test_legend_of_a_fusion_map_shows_what_is_drawn(page: "Page") -> None:
    viewer = "#fusion-maps .viewer"
    page.click(f"{viewer} .layers button:nth-child(2)")
    legend = dict(page.evaluate(SAMPLES))
    canvas = page.locator(f"{viewer} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    told, drawn = {}, dict(enumerate(page.evaluate(PATCHES)))
    for patch in range(4):
        page.mouse.move(
            box["x"] + (patch % 2 + 0.5) * box["width"] / 2,
            box["y"] + (patch // 2 + 0.5) * box["height"] / 2,
        )
        told[patch] = page.inner_text(f"{viewer} .patch").partition(": ")[2]
    # Scores 0.1 0.2 0.3 0.4, the first dropped: the legend's lowest, middle and highest are others.
    assert told == dict(
        enumerate(["dropped", "score 0.2, kept", "score 0.3, kept", "score 0.4, kept"])
    )
    assert set(legend) == set(told.values())
    for patch, text in told.items():
        assert drawn[patch] == pytest.approx(legend[text], abs=0.04), text
    page.click(f"{viewer} .layers button:nth-child(1)")
    assert "dropped by 2 of 2 layers" in dict(page.evaluate(SAMPLES))


def test_picture_is_seen_in_its_colours_under_a_fusion_map(page: "Page") -> None:
    corner = page.evaluate(
        """() => [...document.querySelector("#fusion-maps .viewer canvas")
            .getContext("2d").getImageData(574, 2, 1, 1).data]"""
    )
    assert corner[:3] == pytest.approx([0, 0, 200], abs=6)  # a patch that all layers kept
