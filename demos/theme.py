"""How the page looks: the system's fonts, few colours, each with the contrast that WCAG AA asks for in both themes."""

from typing import Literal

from gradio.themes import Base, colors, sizes

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

THEME = Base(
    primary_hue=colors.teal,
    secondary_hue=colors.teal,
    neutral_hue=colors.slate,
    radius_size=sizes.radius_md,
    text_size=sizes.text_md,
    font=_FONTS,
    font_mono=_MONO,
).set(
    body_background_fill="#f6f8fa",
    body_background_fill_dark="#0f1720",
    body_text_color="#17202a",
    body_text_color_dark="#eef2f6",
    body_text_color_subdued="#4a5766",
    body_text_color_subdued_dark="#b3c0cd",
    background_fill_primary="#ffffff",
    background_fill_primary_dark="#18222d",
    background_fill_secondary="#f6f8fa",
    background_fill_secondary_dark="#131c26",
    block_background_fill="#ffffff",
    block_background_fill_dark="#18222d",
    block_border_color="#d3dae1",
    block_border_color_dark="#34424f",
    block_label_background_fill="#ffffff",
    block_label_background_fill_dark="#18222d",
    block_label_text_color="#344252",
    block_label_text_color_dark="#cfd9e2",
    block_title_text_color="#344252",
    block_title_text_color_dark="#cfd9e2",
    block_info_text_color="#4a5766",
    block_info_text_color_dark="#b3c0cd",
    border_color_primary="#8794a1",
    border_color_primary_dark="#64748b",
    input_background_fill="#ffffff",
    input_background_fill_dark="#101922",
    input_border_width="1px",
    input_border_width_dark="1px",
    input_border_color="#7b8794",
    input_border_color_dark="#7b8a99",
    input_placeholder_color="#5c6975",
    input_placeholder_color_dark="#9fadba",
    input_border_color_focus="#0f766e",
    input_border_color_focus_dark="#5eead4",
    button_primary_background_fill="#0f766e",
    button_primary_background_fill_dark="#0f766e",
    button_primary_background_fill_hover="#115e59",
    button_primary_background_fill_hover_dark="#115e59",
    button_primary_text_color="#ffffff",
    button_primary_text_color_dark="#ffffff",
    button_secondary_background_fill="#e4e9ee",
    button_secondary_background_fill_dark="#2a3744",
    button_secondary_background_fill_hover="#d3dae1",
    button_secondary_background_fill_hover_dark="#37475a",
    button_secondary_text_color="#17202a",
    button_secondary_text_color_dark="#eef2f6",
    checkbox_label_background_fill="#ffffff",
    checkbox_label_background_fill_dark="#101922",
    checkbox_label_text_color="#17202a",
    checkbox_label_text_color_dark="#eef2f6",
    checkbox_label_background_fill_selected="#d9f2ee",
    checkbox_label_background_fill_selected_dark="#134e4a",
    checkbox_label_text_color_selected="#0b3b37",
    checkbox_label_text_color_selected_dark="#ffffff",
    checkbox_border_color="#7b8794",
    checkbox_border_color_dark="#9fadba",
    checkbox_background_color_selected="#0f766e",
    checkbox_background_color_selected_dark="#14b8a6",
    checkbox_border_color_selected="#0f766e",
    checkbox_border_color_selected_dark="#14b8a6",
    color_accent="#0f766e",
    color_accent_soft="#d9f2ee",
    color_accent_soft_dark="#134e4a",
    border_color_accent="#0f766e",
    border_color_accent_dark="#5eead4",
    slider_color="#0f766e",
    slider_color_dark="#2dd4bf",
    link_text_color="#0f766e",
    link_text_color_dark="#5eead4",
    shadow_drop="none",
    shadow_drop_lg="none",
)

CSS = """
.gradio-container { max-width: 1180px !important; width: 100% !important; margin: 0 auto !important; }
.gradio-container > main, .gradio-container > main > .wrap { width: 100%; }
.title h1 { font-size: 1.5rem; font-weight: 700; margin: .2rem 0; }
.title p { margin: 0 0 .2rem; color: var(--body-text-color-subdued); }
.message { margin: 0; padding: .6rem .8rem; border-radius: 6px; border-left: 5px solid; }
.message.error { background: #fdecea; color: #7a1410; border-color: #b3261e; }
.message.busy { background: #fff4d6; color: #5c4300; border-color: #9a6b00; }
.message:is(.note, .working) { background: #e3f3f1; color: #0b3b37; border-color: #0f766e; }
.dark .message.error { background: #43191a; color: #ffd9d6; border-color: #ff8a80; }
.dark .message.busy { background: #3b2f10; color: #ffe7ad; border-color: #e0b040; }
.dark .message:is(.note, .working) { background: #12332f; color: #d3f5ef; border-color: #2dd4bf; }
.dark .tab-container button.selected { color: #5eead4 !important; }
/* What has no content is not shown. The framework's own way is slower than answers are: it may come too late. */
.answer:not(:has(.model)), .answer .drawn:not(:has(img)), body:not(:has(.answer .model)) .results {
  display: none !important; }
h3.model { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
.pace { margin: 0; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.written { margin: 0; padding: .5rem .6rem; line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere;
  max-height: 16rem; overflow-y: auto; border: 1px solid var(--block-border-color); border-radius: 6px;
  background: var(--background-fill-primary); color: var(--body-text-color); }
.written.empty { color: var(--body-text-color-subdued); }
.said { border-radius: 3px; padding: .1em 0; color: #17202a; }
.level-0 { background: #ffb3a7; text-decoration: underline dotted #8c1d18 2px; }
.level-1 { background: #ffd9a0; }
.level-2 { background: #f5eaa4; }
.level-3 { background: #d5edc8; }
.level-4 { background: transparent; color: inherit; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .5rem; margin: 0; font-size: .85rem;
  color: var(--body-text-color-subdued); }
.legend .said { padding: 0 .4em; }
.legend .level-4 { border: 1px solid var(--block-border-color); }
.charts { display: flex; flex-wrap: wrap; gap: .8rem; }
.chart { margin: 0; flex: 1 1 240px; min-width: 0; max-width: 360px; }
.chart figcaption { font-weight: 600; }
.chart svg { width: 100%; height: auto; }
.chart text { fill: var(--body-text-color-subdued); font-size: 12px; }
.chart .axis { stroke: var(--body-text-color-subdued); }
.chart .grid { stroke: var(--block-border-color); }
.chart .line { fill: none; stroke: #0f766e; stroke-width: 2.5; }
.chart .ring { fill: #0f766e; }
.dark .chart .line { stroke: #5eead4; }
.dark .chart .ring { fill: #5eead4; }
.report { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow-y: auto; margin: 0;
  font-family: var(--font-mono); font-size: .85rem; }
.scores { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0; padding: 0; list-style: none; }
:is(button, a, input, textarea, select, [tabindex="0"]):focus-visible { outline: 3px solid #0f766e !important;
  outline-offset: 2px; }
.dark :is(button, a, input, textarea, select, [tabindex="0"]):focus-visible { outline-color: #5eead4 !important; }
@media (max-width: 640px) {
  .gradio-container { padding: 8px !important; }
  button { min-height: 44px; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""

HEAD = """<script>
new MutationObserver(() => document.querySelectorAll('#examples button.gallery-item').forEach(
  (button, place) => { if (!button.ariaLabel) button.ariaLabel = `Example ${place + 1}`; }
)).observe(document.documentElement, {childList: true, subtree: true});
</script>"""
"""Names the examples for those who hear the page: the framework leaves these buttons without one."""


def presence(shown: bool) -> Literal[True, "hidden"]:
    """Returns what `visible` takes for a part that comes and goes.

    It stays on the page unseen: Gradio mounts what was taken off anew, and may meanwhile miss that it is to be shown.
    """
    return True if shown else "hidden"
