"""The web page as text: a Vue template, whose words come from the state of web_page.Page, and its style sheet.

Plain HTML elements, so that a keyboard and a screen reader find their way; nothing is loaded from anywhere.
"""

from __future__ import annotations

from .offscreen_views import VIEWS

STYLE = """
:root { color-scheme: light; --ground: #f4f5f7; --panel: #ffffff; --text: #1b1f27; --weak: #5a6372; --line: #d3d8e0;
  --accent: #1c5fa8; --on-accent: #ffffff; --chosen: #dbe9f8; --alarm: #a32014; }
:root:has(.page.dark) { color-scheme: dark; --ground: #15181d; --panel: #1e2229; --text: #e8ebf0; --weak: #a3adbb;
  --line: #3a414c; --accent: #7db4f0; --on-accent: #10151c; --chosen: #2b4260; --alarm: #ff9d90; }
@media (prefers-color-scheme: dark) { :root:has(.page.system) { color-scheme: dark; --ground: #15181d;
  --panel: #1e2229; --text: #e8ebf0; --weak: #a3adbb; --line: #3a414c; --accent: #7db4f0; --on-accent: #10151c;
  --chosen: #2b4260; --alarm: #ff9d90; } }
html, body { margin: 0; height: 100%; background: var(--ground); }
* { box-sizing: border-box; }
.page { display: grid; height: 100vh; grid-template: auto minmax(0, 1fr) auto / minmax(300px, 380px) minmax(0, 1fr);
  grid-template-areas: "head head" "side views" "foot foot"; gap: 10px; padding: 10px; color: var(--text);
  background: var(--ground); font: 15px/1.4 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.head { grid-area: head; display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; }
.head h1 { font-size: 17px; margin: 0; overflow-wrap: anywhere; }
.head .fill { flex: 1; }
.foot { grid-area: foot; display: flex; flex-wrap: wrap; gap: 2px 20px; font-size: 13px; color: var(--weak); }
.side { grid-area: side; display: flex; flex-direction: column; gap: 10px; min-height: 0; overflow-y: auto; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.card h2 { font-size: 14px; margin: 0 0 6px; }
.card.lesions { flex: 1 1 200px; min-height: 190px; display: flex; flex-direction: column; }
.field { display: grid; grid-template-columns: 1fr auto; gap: 0 8px; margin-bottom: 6px; }
.field label { font-size: 14px; } .field output { font-variant-numeric: tabular-nums; }
.field input, .field select { grid-column: 1 / 3; width: 100%; margin: 4px 0; accent-color: var(--accent); }
select, button { font: inherit; color: var(--text); background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; padding: 4px 10px; min-height: 32px; }
button { cursor: pointer; } button:disabled { opacity: .5; cursor: default; }
button.main { background: var(--accent); color: var(--on-accent); border-color: var(--accent); font-weight: 600; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 1px; }
.scroll { overflow: auto; flex: 1; min-height: 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
th { position: sticky; top: 0; background: var(--panel); text-align: right; font-weight: 600; padding: 5px 8px;
  border-bottom: 1px solid var(--line); vertical-align: bottom; z-index: 1; }
td { text-align: right; padding: 1px 8px; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--panel); text-align: center; z-index: 1; }
th:first-child { z-index: 2; }
tbody tr { cursor: pointer; } tbody tr:hover td { background: var(--ground); }
tbody tr.chosen td { background: var(--chosen); }
td button { min-height: 26px; min-width: 34px; padding: 0 6px; }
.words { margin: 6px 0 0; font-size: 14px; overflow-wrap: anywhere; } .words:empty { margin: 0; }
.weak { color: var(--weak); font-size: 13px; }
.alarm { color: var(--alarm); }
progress { width: 100%; height: 10px; accent-color: var(--accent); }
.row { display: flex; gap: 8px; flex-wrap: wrap; align-items: center; }
.views { grid-area: views; display: grid; grid-template: 1fr 1fr / 1fr 1fr; gap: 8px; min-height: 0; }
.view { position: relative; display: flex; flex-direction: column; background: #000; border-radius: 8px;
  overflow: hidden; min-height: 0; min-width: 0; border: 1px solid var(--line); }
.view .canvas { position: relative; flex: 1; min-height: 0; touch-action: none; cursor: crosshair; }
.view .canvas.turn { cursor: grab; } .view .canvas:focus-visible { outline-offset: -3px; }
.view img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; pointer-events: none;
  user-select: none; }
.view .cross, .view .cross::before, .view .cross::after { position: absolute; pointer-events: none; }
.view .cross::before { left: -400vw; width: 800vw; top: -.5px; height: 1px; --way: to right; content: ""; }
.view .cross::after { top: -400vh; height: 800vh; left: -.5px; width: 1px; --way: to bottom; content: ""; }
.view .cross::before, .view .cross::after { background: linear-gradient(var(--way), #7fb8ff88 calc(50% - 12px),
  transparent calc(50% - 12px) calc(50% + 12px), #7fb8ff88 calc(50% + 12px)); }
.view .canvas { overflow: hidden; }
.view .name { position: absolute; left: 8px; top: 5px; z-index: 2; color: #fff; font-size: 13px; pointer-events: none;
  text-shadow: 0 0 3px #000, 0 0 3px #000; max-width: calc(50% - 4px); }
.view .level { position: absolute; right: 8px; top: 5px; z-index: 2; color: #fff; font-size: 12px; white-space: pre;
  pointer-events: none; text-shadow: 0 0 3px #000, 0 0 3px #000; font-variant-numeric: tabular-nums; }
.view .edge { position: absolute; color: #fff; font-size: 14px; pointer-events: none; user-select: none;
  text-shadow: 0 0 3px #000, 0 0 3px #000; transform: translate(-50%, -50%); }
.edge.left { left: 14px; top: calc(50% - 14px); } .edge.right { left: calc(100% - 14px); top: calc(50% - 14px); }
.edge.top { left: calc(50% + 14px); top: 14px; } .edge.bottom { left: calc(50% + 14px); top: calc(100% - 14px); }
.view .name::before { content: ""; display: inline-block; width: 9px; height: 9px; margin-right: 6px;
  border-radius: 2px; background: var(--mark); }
.view .slide { display: flex; padding: 3px 8px; background: var(--panel); }
.view .slide input { flex: 1; margin: 0; min-width: 0; accent-color: var(--accent); }
@media (max-width: 820px) {
  .page { height: auto; min-height: 100vh; grid-template: auto auto auto auto / minmax(0, 1fr);
    grid-template-areas: "head" "views" "side" "foot"; }
  .views { grid-template: repeat(4, min(78vw, 62vh)) / 1fr; } .side { overflow: visible; }
  .card.lesions { max-height: 60vh; flex: none; }
}
@media (max-width: 820px) and (min-width: 520px) { .views { grid-template: 42vw 42vw / 1fr 1fr; } }
"""

_MARKS = {"Red": "#f04b3a", "Yellow": "#edd54c", "Green": "#6eb04b"}

# Shares of the element's width and height, wherever the pointer is.
_SHARES = "$event.offsetX / $event.currentTarget.clientWidth, $event.offsetY / $event.currentTarget.clientHeight"


def _size(name: str) -> str:
    """Says the size anew: another tab, of another size, may have said its own meanwhile."""
    of = f"size_{name}"
    return f"{of} && trigger('resize', ['{name}', {of}.size.width, {of}.size.height, {of}.pixelRatio])"


def _canvas(name: str, keys: str, more: str = "", inside: str = "") -> str:
    """A picture that takes drags, clicks, the wheel and keys."""
    return f"""
<div class="canvas {more}" tabindex="0" role="img" :aria-label="labels.{name}" data-view="{name}"
  @pointerdown="$event.currentTarget.setPointerCapture($event.pointerId); trigger('press', ['{name}', {_SHARES}])"
  @pointermove="$event.buttons === 1 && trigger('drag', ['{name}', {_SHARES}])"
  @pointerup="trigger('release', ['{name}', {_SHARES}])"
  @pointerenter="{_size(name)}" @focus="{_size(name)}"
  @wheel.prevent="trigger('wheel', ['{name}', $event.deltaY, $event.shiftKey])"
  {keys}>
  <trame-size-observer name="size_{name}" style="width: 100%; height: 100%"
    @change="trigger('resize', ['{name}', $event.size.width, $event.size.height, $event.pixelRatio])">
  </trame-size-observer>
  <img v-if="image_{name}" :src="image_{name}" alt="" draggable="false">{inside}
</div>"""


def _cross(name: str) -> str:
    """Where the other views are, as two lines with a gap at the point."""
    return f"""<div class="cross" :style="{{ left: crosses.{name}[0] + '%', top: crosses.{name}[1] + '%' }}"></div>"""


def _edges(name: str) -> str:
    """Where right, left, front, back, head and feet of the patient are."""
    places = enumerate(("left", "right", "top", "bottom"))
    return "".join(
        f"""<b class="edge {place}" aria-hidden="true">{{{{ edges.{name}[{index}] }}}}</b>""" for index, place in places
    )


def _slice_view(name: str) -> str:
    keys = "".join(
        f"""@keydown.{key}.prevent="trigger('{call}', ['{name}', {count}])" """
        for key, call, count in (
            ("up.exact", "step", 1), ("down.exact", "step", -1), ("page-up", "step", 10), ("page-down", "step", -10),
            ("+", "zoom", 1), ("-", "zoom", -1),
        )
    )  # fmt: skip
    keys += "".join(
        f"""@keydown.shift.{key}.prevent="trigger('change_contrast', [{right}, {up}])" """
        for key, right, up in (("left", -0.02, 0), ("right", 0.02, 0), ("up", 0, 0.02), ("down", 0, -0.02))
    )
    return f"""
<section class="view" style="--mark: {_MARKS[name]}">
  <div class="name">{{{{ labels.{name} }}}}</div>
  <div class="level">{{{{ contrast }}}}</div>
  {_canvas(name, keys, inside=_cross(name) + _edges(name))}
  <div class="slide"><input type="range" :aria-label="'Slice of ' + labels.{name}" :min="ranges.{name}[0]"
    :max="ranges.{name}[1]" :step="ranges.{name}[2]" :value="offsets.{name}"
    @input="trigger('slide', ['{name}', Number($event.target.value)])"></div>
</section>"""


def _surface_view() -> str:
    keys = "".join(
        f"""@keydown.{key}.prevent="trigger('turn', [{right}, {up}])" """
        for key, right, up in (("left", -10, 0), ("right", 10, 0), ("up", 0, 10), ("down", 0, -10))
    )
    keys += "".join(
        f"""@keydown.{key}.prevent="trigger('zoom', ['Surfaces', {direction}])" """
        for key, direction in (("+", 1), ("-", -1))
    )
    return f"""
<section class="view" style="--mark: #9aa6bb">
  <div class="name">3D</div>
  {_canvas("Surfaces", keys, "turn")}
</section>"""


_SLIDERS = """
<div v-if="is_segmentation">
  <div class="field"><label for="threshold">Threshold (probability)</label>
    <output>{{ Number(threshold).toFixed(2) }}</output>
    <input id="threshold" type="range" :min="limits[0]" max="1" step="0.01" :value="threshold" :disabled="is_running"
      @input="threshold = Number($event.target.value); trigger('settings', [threshold, minimum_volume])"></div>
  <div class="field"><label for="minimum">Minimum volume</label>
    <output>{{ minimum_volume }} mm³</output>
    <input id="minimum" type="range" min="0" :max="limits[1]" step="1" :value="minimum_volume" :disabled="is_running"
      @input="minimum_volume = Number($event.target.value); trigger('settings', [threshold, minimum_volume])"></div>
</div>"""

_RESULT = f"""
<section class="card" v-if="results.length">
  <div class="field"><label for="result">Result</label><span></span>
    <select id="result" :value="chosen" :disabled="is_running"
      @change="trigger('choose_result', [Number($event.target.value)])">
      <option v-for="(name, index) in results" :key="index" :value="index">{{{{ name }}}}</option></select></div>
  {_SLIDERS}
</section>"""

_TABLE = """
<section class="card lesions">
  <h2 id="lesions">{{ is_segmentation ? "Lesions" : results.length ? "Findings" : "Result" }}</h2>
  <div class="scroll" v-if="rows.length" tabindex="0" role="region" aria-labelledby="lesions">
    <table><thead><tr><th v-for="title in headers" :key="title" scope="col">{{ title }}</th></tr></thead>
    <tbody><tr v-for="row in rows" :key="row[0]" :class="{ chosen: row[0] === chosen_row }"
        @click="trigger('choose_row', [row[0]])">
      <td v-for="(cell, index) in row[1]" :key="index">
        <button v-if="index === 0" :aria-pressed="row[0] === chosen_row ? 'true' : 'false'"
          :aria-label="'Show ' + cell">{{ cell }}</button>
        <template v-else>{{ cell }}</template></td>
    </tr></tbody></table></div>
  <p class="words" role="status" id="summary">{{ summary }}</p>
  <p class="words" v-if="!results.length && !missing">Run the model to make one.</p>
</section>"""

_MODEL = """
<section class="card">
  <h2>Model</h2>
  <div class="row">
    <button class="main" id="run" v-if="!is_running" :disabled="!!missing" @click="trigger('run')">
      Run {{ bundle_name }}</button>
    <button id="cancel" v-else @click="trigger('cancel')">Cancel</button></div>
  <progress v-if="is_running" :value="fraction" max="1" aria-label="Progress"></progress>
  <p class="words" role="status" id="status" :class="{ alarm: is_failed }">{{ status }}</p>
  <p class="words weak" v-if="missing && !is_running">{{ missing }}</p>
</section>"""

_HEAD = """
<header class="head"><h1>XTL · {{ title }}</h1><span class="fill"></span>
  <button @click="trigger('reset')">Reset views</button>
  <label class="row">Style <select v-model="style" aria-label="Light or dark style">
    <option value="system">System</option><option value="light">Light</option><option value="dark">Dark</option>
  </select></label></header>"""

_FOOT = """
<footer class="foot"><strong>{{ note }}</strong><span>Click: all views go there. Drag (Shift, arrow keys): contrast;
  in 3D, turn. Wheel (arrow keys): slices. Shift, wheel (+ −): zoom.</span></footer>"""

TEMPLATE = f"""
<main class="page" :class="style" :aria-busy="is_drawing ? 'true' : 'false'">
  {_HEAD}
  <div class="side">{_RESULT}{_TABLE}{_MODEL}</div>
  <div class="views">{"".join(map(_slice_view, VIEWS))}{_surface_view()}</div>
  {_FOOT}
</main>"""

# In place of the page, whose style sheet goes with it.
DISCONNECTED = """
<component is="style">:root { color-scheme: light dark; }</component>
<main style="font: 16px/1.5 system-ui, sans-serif; max-width: 34em; margin: 15vh auto; padding: 0 16px">
  <h1 style="font-size: 20px">The page is no longer connected</h1>
  <p role="alert">What it shows would no longer answer. Start xtl view again; where it still runs,
    <a href="">load the page again</a>.</p>
</main>"""
