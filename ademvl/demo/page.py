"""The demo's page, built with gradio: what stands where, and what follows a click.

It is served on 127.0.0.1 alone, sends nothing elsewhere and loads no fonts from the network.
"""

import html
import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.demo.asking import ALL_LAYERS, Reply, ask, name_of
from ademvl.errors import AdemvlError, SettingsError, ToolError
from ademvl.prediction.adapted_model import AdaptedModel
from ademvl.prediction.sample_images import FOLDER

if TYPE_CHECKING:
    import gradio as gr

HOST = "127.0.0.1"
_TITLE = "Ask trained adapters"
_KEPT_SECONDS = 3600  # of uploaded pictures
_EXAMPLES = (
    ("red_circle", "What color is the shape?", "red\nblue\ngreen"),
    ("blue_triangle", "which shape does the image show?", "circle\nrectangle\ntriangle"),
    ("yellow_rectangle", "is the shape a rectangle?", "yes\nno"),
    ("teal_circle", "Which color does the circle have?", "gray\nteal\nbrown\nyellow"),
)


def serve(models: Sequence[AdaptedModel], *, port: int) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        ToolError: gradio is not installed.
        SettingsError: the port is taken.
    """
    page = build_page(models)
    try:
        page.launch(server_name=HOST, server_port=port, share=False, quiet=True, footer_links=[])
    except OSError as error:
        raise SettingsError(
            f"port {port} of {HOST} cannot be used ({error}); name another"
        ) from error


def build_page(models: Sequence[AdaptedModel]) -> "gr.Blocks":
    """Build the page of some adapters, which stand side by side.

    Raises:
        ToolError: gradio is not installed.
    """
    gr = load_gradio()
    with gr.Blocks(
        title=_TITLE, analytics_enabled=False, delete_cache=(600, _KEPT_SECONDS)
    ) as page:
        gr.Markdown(f"# {_TITLE}")
        with gr.Row():
            with gr.Column():
                image = gr.Image(
                    type="filepath", label="image", height=260, image_mode=None,
                    sources=["upload", "clipboard"],
                )  # fmt: skip
                samples = gr.Column()
            with gr.Column():
                kind = gr.Radio(["question", "caption"], value="question", label="asked for")
                question = gr.Textbox(label="question")
                choices = gr.Textbox(label="choices, one a line (none: a free answer)", lines=4)
                hint = gr.Textbox(label="hint")
                button = gr.Button("Ask", variant="primary")
        with samples:
            gr.Examples(
                [[str(FOLDER / f"{name}.png"), *rest] for name, *rest in _EXAMPLES],
                inputs=[image, question, choices],
                label="samples, which look like the mini study's images",
            )
        asked = [image, kind, question, choices, hint]
        with gr.Row():
            for model in models:
                _add_column(gr, model, asked, button)
    return page


def load_gradio() -> Any:
    """Return the package gradio.

    Raises:
        ToolError: it is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise ToolError(
            "The package gradio, which serves the demo, is missing. "
            "Install it with `pip install 'ademvl[demo]'`."
        ) from error
    return gradio


def _add_column(gr: Any, model: AdaptedModel, asked: list[Any], button: Any) -> None:
    """Add what one adapter answers."""
    with gr.Column(min_width=320):
        gr.Markdown(f"### {name_of(model)}")
        state = gr.State()
        text = gr.Markdown()
        shares = gr.Label(show_label=False, visible=False)
        with gr.Row(visible=False) as controls:
            scale = gr.Radio([], label="image seen as", interactive=True)
            layer = gr.Dropdown([ALL_LAYERS], label="kept by", interactive=True)
        maps = gr.HTML(visible=False)

    def answer(image: str | None, kind: Any, question: str, choices: str, hint: str) -> list[Any]:
        lines = [line.strip() for line in choices.splitlines() if line.strip()]
        try:
            reply = ask(model, image, kind, question.strip(), lines, hint.strip())
        except AdemvlError as error:
            return [None, f"cannot be asked: {error}", *[gr.update(visible=False)] * 2,
                    *[gr.update()] * 2, gr.update(visible=False)]  # fmt: skip
        has_maps = bool(reply.scales)
        return [
            reply,
            reply.text,
            gr.update(value=reply.probabilities, visible=reply.probabilities is not None),
            gr.update(visible=has_maps),
            gr.update(choices=reply.scales, value=reply.scales[0] if has_maps else None),
            gr.update(choices=reply.layers, value=ALL_LAYERS),
            gr.update(
                value=_pictures(reply, reply.scales[0], ALL_LAYERS) if has_maps else None,
                visible=has_maps,
            ),
        ]

    def redraw(reply: Reply | None, scale: str, layer: str) -> str | None:
        return _pictures(reply, scale, layer) if reply and reply.scales else None

    outputs = [state, text, shares, controls, scale, layer, maps]
    button.click(answer, asked, outputs, api_visibility="private")
    for control in (scale, layer):
        control.input(redraw, [state, scale, layer], maps, api_visibility="private")


def _pictures(reply: Reply, scale: str, layer: str) -> str:
    """Return the maps of all words side by side as HTML."""
    figures = []
    for picture, word in reply.maps(scale, layer):
        content = io.BytesIO()
        picture.save(content, format="PNG")
        source = f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"
        name = html.escape(word)
        figures.append(
            f'<figure style="margin:0"><img src="{source}" alt="what {name} kept" '
            f'style="width:100%"><figcaption style="text-align:center">{name}</figcaption></figure>'
        )
    grid = "display:grid;gap:8px;grid-template-columns:repeat(auto-fill,minmax(140px,1fr))"
    return (
        f'<div style="{grid}">{"".join(figures)}</div><p>What each word kept of the image: a dark '
        "cross where layers dropped a patch, a dot where one layer kept it, larger for a higher "
        "score.</p>"
    )


def default_runs(folder: Path) -> list[Path]:
    """Return the mini study's runs that the demo shows where none is named.

    Raises:
        SettingsError: they are not there.
    """
    runs = [folder / "adem", folder / "captions"]
    found = [run for run in runs if any(run.glob("seed*/adapter/adapter.json"))]
    if not found:
        raise SettingsError(
            f"{folder}: no trained run of the mini study there; name runs, or make it: make mini"
        )
    return found
