// What stands around the photo.
import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { thumbnailUrl } from "./api.js";
import { ICONS } from "./icons.js";
import { SHORTCUTS, TOOLS } from "./keys.js";

const css = (rgb) => `rgb(${rgb.join(",")})`;
const percent = (share) => `${Math.round(100 * share)} %`;
const STAGES = {
  loading: "loading the model",
  working: "completing",
  first: "placing borders",
  final: "ready",
  idle: "ready",
  confidence: "ready",
  failed: "the model failed",
};

export function App({ editor, page }) {
  if (!editor.project) return html`<p class="centre">Loading.</p>`;
  return html`
    <${Bar} editor=${editor} page=${page} />
    <${Photos} editor=${editor} />
    <${Side} editor=${editor} />
    <${Hint} editor=${editor} />
    <${Status} editor=${editor} page=${page} />
    ${page.help && html`<${Help} page=${page} />`}
  `;
}

function Button({ onClick, label, keys, pressed, disabled, children, primary }) {
  const title = keys ? `${label} (${keys})` : label;
  return html`<button
    type="button" class=${primary ? "primary" : ""} title=${title} aria-label=${label} aria-pressed=${pressed} disabled=${disabled}
    onClick=${onClick}>${children || label}</button>`;
}

function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

function Bar({ editor, page }) {
  const { told } = editor;
  const shown = (mode, label, keys, text) => html`<${Button} label=${label} keys=${keys} pressed=${editor.mode === mode}
    onClick=${() => editor.setMode(mode)}>${text}<//>`;
  return html`<header class="bar" role="toolbar" aria-label="Tools">
    <div class="group tools">
      ${TOOLS.map(([tool, key, name, what]) => html`<${Button} key=${tool} label=${`${name}: ${what}`} keys=${key} pressed=${editor.tool === tool}
        onClick=${() => editor.setTool(tool)}><${Icon} name=${tool} /><span>${name}</span><//>`)}
    </div>
    <label class="group" title="Diameter of brush and eraser in pixels ([ and ])">Size
      <input type="range" min="1" max="200" value=${editor.size} aria-label="Brush size in pixels"
        onInput=${(e) => editor.set("size", Number(e.target.value))} /><output>${editor.size}</output></label>
    <div class="group">
      <${Button} label=${told && told.undo === "model" ? "Undo what the model did" : "Undo"} keys="Ctrl Z" disabled=${!told || !told.undo}
        onClick=${() => editor.undo()}><${Icon} name="undo" /><//>
      <${Button} label="Redo" keys="Ctrl Shift Z" disabled=${!told || !told.redo} onClick=${() => editor.redo()}><${Icon} name="redo" /><//>
      <${Button} label="Propose all that is not pinned anew" keys="C" onClick=${() => editor.propose()}>
        <${Icon} name="propose" /><span>Propose</span><//>
    </div>
    <div class="group">
      <label class="group" title="Strength of the colours">Tint
        <input type="range" min="0" max="1" step="0.05" value=${editor.opacity} aria-label="Opacity of the segments"
          onInput=${(e) => editor.set("opacity", Number(e.target.value))} /></label>
      ${shown("outlines", "Outlines only", "O", "Outlines")}
      ${shown("photo", "Photo only", "H", "Photo")}
      ${shown("confidence", "How sure the model is", "K", "Confidence")}
    </div>
    <div class="group end">
      <${Button} label=${`Light or dark (now: ${editor.theme})`} keys="T" onClick=${() => page.nextTheme()}><${Icon} name="theme" /><//>
      <${Button} label="All keys" keys="?" onClick=${() => page.toggleHelp()}>Keys<//>
    </div>
  </header>`;
}

/** What the tool will do next, over the foot of the photo. */
function Hint({ editor }) {
  if (!editor.cells) return null;
  const [, , name] = TOOLS.find(([tool]) => tool === editor.tool);
  const [id] = editor.chosen;
  const fresh = !id || ["point", "box"].includes(editor.tool);
  const named = editor.project.classes.find((c) => c.id === editor.newCategory);
  const painting = ["brush", "lasso", "point", "box"].includes(editor.tool);
  const what = {
    eraser: "frees pixels; the model fills them",
    split: id ? `cuts ${editor.nameOf(id)} along a line from edge to edge` : "cuts the segment in which the line begins",
    select: "click a segment; Shift adds to the choice",
  }[editor.tool] || (fresh ? `begins a new segment${named && !id ? `: ${named.name}` : ""}` : `adds to ${editor.nameOf(id)}`);
  return html`<div class="hint">
    ${painting && !fresh && html`<span class="swatch" style=${{ background: css(editor.colorOf(id)) }}></span>`}
    ${painting && fresh && html`<span class="swatch new">+</span>`}
    <strong>${name}</strong><span>${what}</span>
  </div>`;
}

function Photos({ editor }) {
  const [filter, setFilter] = useState("all");
  const shown = editor.photos.filter((p) => filter === "all" || (filter === "finished") === p.finished);
  const done = editor.photos.filter((p) => p.finished).length;
  return html`<nav class="photos" aria-label="Photos">
    <div class="row done"><strong>${done} of ${editor.photos.length} finished</strong></div>
    <select aria-label="Which photos are listed" value=${filter} onChange=${(e) => setFilter(e.target.value)}>
      <option value="all">All photos</option><option value="open">Not finished</option><option value="finished">Finished</option>
    </select>
    <ul>${shown.map((photo) => html`<li key=${photo.key}>
      <button type="button" class="photo" aria-current=${photo.key === editor.key} disabled=${Boolean(photo.problem)}
        title=${photo.problem || photo.name} onClick=${() => editor.open(photo.key)}>
        ${photo.problem ? html`<span class="broken">!</span>` : html`<img src=${thumbnailUrl(photo.key)} alt="" loading="lazy" />`}
        <span class="name">${photo.name}</span>
        <span class="state">${stateOf(photo)}</span>
        <span class="meter"><span class="sure" style=${{ width: `${100 * (photo.confident ?? 0)}%` }}></span>
          <span class="pinned" style=${{ width: `${100 * photo.pinned}%` }}></span></span>
      </button></li>`)}</ul>
  </nav>`;
}

function stateOf(photo) {
  if (photo.problem) return "cannot be read";
  if (photo.finished) return "✓ finished";
  if (!photo.begun) return "not begun";
  const sure = photo.confident === null ? "" : `, ${percent(photo.confident)} confident`;
  return `${percent(photo.pinned)} pinned${sure}`;
}

function Side({ editor }) {
  const { told } = editor;
  if (!told || !editor.cells) return html`<aside class="side"></aside>`;
  const list = [...editor.segments.values()].sort((a, b) => b.area - a.area);
  return html`<aside class="side" aria-label="Segments and classes">
    <${Classes} editor=${editor} />
    <h2>${list.length} segments</h2>
    <div class="row wrap">
      <${Button} label="New segment" keys="N" onClick=${() => editor.fresh()}>New<//>
      <${Button} label="Accept the chosen segments: pinned pixels never change" keys="A" disabled=${!editor.chosen.length}
        onClick=${() => editor.pin(true)}>Accept<//>
      <${Button} label="Unpin the chosen segments" keys="U" disabled=${!editor.chosen.length} onClick=${() => editor.pin(false)}>Unpin<//>
      <${Button} label="Merge the chosen segments" keys="M" disabled=${editor.chosen.length < 2} onClick=${() => editor.merge()}>Merge<//>
      <${Button} label="Delete the chosen segments" keys="Delete" disabled=${!editor.chosen.length} onClick=${() => editor.remove()}>Delete<//>
      <${Button} label="Accept everything" keys="Shift A" onClick=${() => editor.pinAll(true)}>Accept all<//>
      <${Button} label="Go to the least certain segment" keys="J" onClick=${() => editor.jumpToUncertain()}>Least certain<//>
      <label class="check"><input type="checkbox" checked=${editor.over} onChange=${(e) => editor.set("over", e.target.checked)} />
        paint over pins</label>
    </div>
    <ul class="segments" aria-label="Segments, the largest first">${list.map((s) => html`<${Segment} key=${s.id} editor=${editor} segment=${s} />`)}</ul>
    <${Button} primary label="Photo finished, go to the next" keys="Ctrl Enter" disabled=${editor.finishing} onClick=${() => editor.finish()}>
      ${editor.finishing ? "Saving" : editor.entry.finished ? "Not finished after all" : "Finished, next photo"}<//>
  </aside>`;
}

function Segment({ editor, segment }) {
  const { id, area, pinned } = segment;
  const share = area / editor.cells.length;
  return html`<li>
    <button type="button" class="segment" aria-pressed=${editor.chosen.includes(id)} data-id=${id}
      onClick=${(e) => (e.shiftKey ? editor.choose([id], true) : editor.goTo(id))}>
      <span class="swatch" style=${{ background: css(editor.colorOf(id)) }}></span>
      <span class="name">${editor.nameOf(id)}</span>
      <span class="state">${share < 0.01 ? "< 1 %" : percent(share)}${pinned === area ? " · pinned" : pinned ? ` · ${percent(pinned / area)} pinned` : ""}</span>
    </button></li>`;
}

function Classes({ editor }) {
  const [name, setName] = useState("");
  const { classes } = editor.project;
  const current = editor.chosen.length ? editor.labelOf(editor.chosen[0])[0] : editor.newCategory ?? null;
  const add = (event) => {
    event.preventDefault();
    if (!name.trim()) return;
    const id = Math.max(1, ...classes.map((c) => c.id)) + 1;
    const color = editor.project.palette[classes.length % editor.project.palette.length];
    editor.setClasses([...classes, { id, name: name.trim(), isthing: true, color }]);
    setName("");
  };
  const change = (one, values) => editor.setClasses(classes.map((c) => (c.id === one.id ? { ...c, ...values } : c)));
  return html`<section aria-label="Classes">
    <h2>Classes</h2>
    ${!classes.length && html`<p class="soft">Optional. Keys 1 to 9 give the chosen segment its class.</p>`}
    <ul class="classes">${classes.map((one, i) => html`<li key=${one.id}>
      <button type="button" class="class" aria-pressed=${current === one.id} onClick=${() => editor.classify(current === one.id ? null : one.id)}>
        <kbd>${i < 9 ? i + 1 : ""}</kbd><span class="name">${one.name}</span></button>
      <button type="button" class="kind" title="Things have instances, stuff has none" onClick=${() => change(one, { isthing: !one.isthing })}>
        ${one.isthing ? "thing" : "stuff"}</button>
      <button type="button" class="kind" aria-label=${`Remove the class ${one.name}`}
        onClick=${() => editor.setClasses(classes.filter((c) => c.id !== one.id))}>×</button>
    </li>`)}</ul>
    <form class="row" onSubmit=${add}>
      <input aria-label="Name of a new class" placeholder="New class" maxlength="100" value=${name} onInput=${(e) => setName(e.target.value)} />
      <button type="submit">Add</button>
    </form>
  </section>`;
}

function Status({ editor, page }) {
  const { told, waiting, online } = editor;
  const busy = ["loading", "working", "first"].includes(editor.stage);
  const saved = !online ? "not connected" : waiting ? `${waiting} change${waiting > 1 ? "s" : ""} on the way` : "saved";
  const shares = told ? `${percent(told.shares.pinned)} pinned` : "";
  return html`<footer class="status">
    <span class=${`dot ${online ? (busy ? "busy" : "ok") : "bad"}`}></span>
    ${busy && html`<span class="progress" role="progressbar" aria-label=${STAGES[editor.stage]}></span>`}
    <span id="stage">${STAGES[editor.stage] || editor.stage}</span>
    <span>${saved}</span><span>${shares}</span>
    <span role="status" aria-live="polite" class="message">${editor.message}</span>
    <span class="end">${page.zoomText()}</span>
  </footer>`;
}

function Help({ page }) {
  const dialog = useRef(null);
  useLayoutEffect(() => dialog.current.showModal(), []);
  const keys = (event) => {
    if (event.key !== "?") return;
    event.stopPropagation();
    dialog.current.close();
  };
  return html`<dialog class="help" ref=${dialog} aria-label="Keys" onKeyDown=${keys} onClose=${() => page.help && page.toggleHelp()}
    onClick=${(e) => e.target === dialog.current && dialog.current.close()}>
    <h2>Keys</h2>
    <div class="keys">${SHORTCUTS.filter(([name]) => name).map(([name, what]) => html`<div key=${name}><kbd>${name}</kbd><span>${what}</span></div>`)}
    </div>
    <button type="button" autofocus onClick=${() => dialog.current.close()}>Close</button>
  </dialog>`;
}
