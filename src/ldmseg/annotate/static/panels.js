// What stands around the photo.
import { html, useState } from "./vendor/htm-preact-standalone.js";
import { thumbnailUrl } from "./api.js";
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

function Bar({ editor, page }) {
  const { told } = editor;
  return html`<header class="bar" role="toolbar" aria-label="Tools">
    <div class="group">
      ${TOOLS.map(([tool, key, name, what]) => html`<${Button} key=${tool} label=${what} keys=${key} pressed=${editor.tool === tool}
        onClick=${() => { editor.tool = tool; editor.changed(); }}>${name}<//>`)}
    </div>
    <label class="group">Size
      <input type="range" min="1" max="200" value=${editor.size} aria-label="Brush size in pixels"
        onInput=${(e) => editor.set("size", Number(e.target.value))} /><output>${editor.size}</output></label>
    <label class="group">Tint
      <input type="range" min="0" max="1" step="0.05" value=${editor.opacity} aria-label="Opacity of the segments"
        onInput=${(e) => editor.set("opacity", Number(e.target.value))} /></label>
    <div class="group">
      <${Button} label="Outlines only" keys="O" pressed=${editor.mode === "outlines"} onClick=${() => editor.setMode("outlines")}>Outlines<//>
      <${Button} label="Photo only" keys="H" pressed=${editor.mode === "photo"} onClick=${() => editor.setMode("photo")}>Photo<//>
      <${Button} label="How sure the model is" keys="K" pressed=${editor.mode === "confidence"}
        onClick=${() => editor.setMode("confidence")}>Confidence<//>
    </div>
    <div class="group">
      <${Button} label=${told && told.undo === "model" ? "Undo what the model did" : "Undo"} keys="Ctrl Z" disabled=${!told || !told.undo}
        onClick=${() => editor.undo()}>Undo<//>
      <${Button} label="Redo" keys="Ctrl Shift Z" disabled=${!told || !told.redo} onClick=${() => editor.redo()} />
      <${Button} label="Propose all that is not pinned anew" keys="C" onClick=${() => editor.propose()}>Propose<//>
    </div>
    <div class="group end">
      <${Button} label="Light or dark" keys="T" onClick=${() => page.nextTheme()}>${{ auto: "Auto", light: "Light", dark: "Dark" }[editor.theme]}<//>
      <${Button} label="Shortcuts" keys="?" onClick=${() => page.toggleHelp()}>?<//>
    </div>
  </header>`;
}

function Photos({ editor }) {
  const [filter, setFilter] = useState("all");
  const shown = editor.photos.filter((p) => filter === "all" || (filter === "finished") === p.finished);
  const done = editor.photos.filter((p) => p.finished).length;
  return html`<nav class="photos" aria-label="Photos">
    <div class="row"><strong>${done} of ${editor.photos.length} finished</strong></div>
    <select aria-label="Which photos are listed" value=${filter} onChange=${(e) => setFilter(e.target.value)}>
      <option value="all">All photos</option><option value="open">Not finished</option><option value="finished">Finished</option>
    </select>
    <ul>${shown.map((photo) => html`<li key=${photo.key}>
      <button type="button" class="photo" aria-current=${photo.key === editor.key} disabled=${Boolean(photo.problem)}
        title=${photo.problem || photo.name} onClick=${() => editor.open(photo.key)}>
        ${photo.problem ? html`<span class="broken">!</span>` : html`<img src=${thumbnailUrl(photo.key)} alt="" loading="lazy" />`}
        <span class="name">${photo.name}</span>
        <span class="state">${stateOf(photo)}</span>
        <span class="meter"><span class="pinned" style=${{ width: `${100 * photo.pinned}%` }}></span></span>
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
    <ul class="segments">${list.map((s) => html`<${Segment} key=${s.id} editor=${editor} segment=${s} />`)}</ul>
    <${Button} primary label="Photo finished, go to the next" keys="Ctrl Enter" onClick=${() => editor.finish()}>
      ${editor.entry.finished ? "Not finished after all" : "Finished, next photo"}<//>
  </aside>`;
}

function Segment({ editor, segment }) {
  const { id, area, pinned } = segment;
  const named = editor.classOf(id);
  const share = area / editor.cells.length;
  return html`<li>
    <button type="button" class="segment" aria-pressed=${editor.chosen.includes(id)} data-id=${id}
      onClick=${(e) => (e.shiftKey ? editor.choose([id], true) : editor.goTo(id))}>
      <span class="swatch" style=${{ background: css(editor.colorOf(id)) }}></span>
      <span class="name">${named ? named.name : `segment ${id}`}</span>
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
    <span id="stage">${STAGES[editor.stage] || editor.stage}</span>
    <span>${saved}</span><span>${shares}</span>
    <span role="status" aria-live="polite" class="message">${editor.message}</span>
    <span class="end">${page.zoomText()}</span>
  </footer>`;
}

function Help({ page }) {
  return html`<dialog class="help" open aria-label="Shortcuts" onKeyDown=${(e) => (e.key === "Escape" || e.key === "?") && page.toggleHelp()}>
    <h2>Shortcuts</h2>
    <table><tbody>${SHORTCUTS.filter(([keys]) => keys).map(([keys, what]) => html`<tr key=${keys}><td><kbd>${keys}</kbd></td><td>${what}</td></tr>`)}
    </tbody></table>
    <button type="button" autofocus onClick=${() => page.toggleHelp()}>Close</button>
  </dialog>`;
}
