// What is on the screen: the map, what is chosen of it, and how it is shown.
import { IDS, measure } from "./map.js";

const KEPT = ["size", "opacity", "theme", "over"];

export class Shown extends EventTarget {
  constructor(view) {
    super();
    this.view = view;
    this.project = null;
    this.cells = null;
    this.told = null; // what the server said of the state that is shown
    this.segments = new Map();
    this.confidence = null;
    this.tool = "brush";
    this.chosen = []; // ids; the first is the one that is painted
    this.size = 24;
    this.opacity = 0.5;
    this.over = false;
    this.theme = "auto";
    this.mode = "map";
    this.message = "";
    this.restore();
    view.onRestored = () => this.showAll();
  }

  // ------------------------------------------------------------------------------------------------------------------ telling
  changed() {
    this.dispatchEvent(new Event("change"));
  }

  say(message) {
    this.message = message;
    this.changed();
  }

  restore() {
    try {
      const stored = JSON.parse(localStorage.getItem("ldmseg") || "{}");
      for (const name of KEPT) if (typeof stored[name] === typeof this[name]) this[name] = stored[name];
    } catch {
      // nothing stored, or nothing that can be read: the defaults hold
    }
    this.view.opacity = this.opacity;
  }

  /** Sets something that is remembered. */
  set(name, value) {
    this[name] = value;
    this.view.opacity = this.opacity;
    localStorage.setItem("ldmseg", JSON.stringify(Object.fromEntries(KEPT.map((k) => [k, this[k]]))));
    this.view.draw();
    this.changed();
  }

  setMode(mode) {
    this.mode = this.view.mode = this.mode === mode ? "map" : mode;
    if (this.mode === "confidence" && !this.confidence) this.say("How sure the model is is still being computed.");
    this.view.draw();
    this.changed();
  }

  setTool(tool) {
    this.tool = tool;
    this.changed();
  }

  // ------------------------------------------------------------------------------------------------------------------ the map
  showAll() {
    if (!this.cells) return;
    this.view.setCells(this.cells, this.told.width, this.told.height);
    this.measured();
  }

  /** After any change of the map: areas, colours, and what is chosen. */
  measured() {
    this.segments = measure(this.cells, this.told.width);
    this.chosen = this.chosen.filter((id) => this.segments.has(id));
    this.coloured();
    this.changed();
  }

  /** Colours of all segments, and of `more` that are being drawn, for the screen. */
  coloured(...more) {
    const ids = new Set([...this.segments.keys(), ...more]);
    this.view.setColors(new Map([...ids].map((id) => [id, this.colorOf(id)])), this.chosen);
  }

  labelOf(id) {
    return (this.told && this.told.labels[id]) || [null, (id - 1) % this.project.palette.length];
  }

  colorOf(id) {
    return this.project.palette[this.labelOf(id)[1] % this.project.palette.length];
  }

  classOf(id) {
    return this.project.classes.find((c) => c.id === this.labelOf(id)[0]);
  }

  nameOf(id) {
    const named = this.classOf(id);
    return named ? named.name : `segment ${id}`;
  }

  idAt(x, y) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const { width, height } = this.told;
    return column >= 0 && row >= 0 && column < width && row < height ? this.cells[row * width + column] & IDS : 0;
  }

  /** Chosen segment that is painted, or a new one in a colour that is rare around a place. */
  target(x, y) {
    if (this.chosen.length) return { id: this.chosen[0] };
    return { id: this.told.next, color: this.rareColor(x, y), category: this.newCategory ?? null };
  }

  rareColor(x, y) {
    const { palette } = this.project;
    const used = new Float64Array(palette.length);
    const reach = Math.max(8, this.size);
    for (let dy = -3; dy <= 3; dy++) {
      for (let dx = -3; dx <= 3; dx++) {
        const id = this.idAt(x + (dx * reach) / 3, y + (dy * reach) / 3);
        if (id) used[this.labelOf(id)[1] % palette.length] += 1000;
      }
    }
    for (const id of this.segments.keys()) used[this.labelOf(id)[1] % palette.length] += 1;
    return used.indexOf(Math.min(...used));
  }

  // ------------------------------------------------------------------------------------------------------------------ choosing
  choose(ids, add = false) {
    const wanted = ids.filter((id) => id);
    if (!add) this.chosen = wanted;
    else wanted.forEach((id) => (this.chosen = this.chosen.includes(id) ? this.chosen.filter((c) => c !== id) : [...this.chosen, id]));
    this.coloured();
    this.changed();
  }

  /** The next segment by size, for those who use the keyboard. */
  chooseNext(by) {
    const ids = [...this.segments.values()].sort((a, b) => b.area - a.area).map((s) => s.id);
    if (!ids.length) return;
    const at = ids.indexOf(this.chosen[0]);
    this.goTo(ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : (at + by + ids.length) % ids.length]);
  }

  goTo(id) {
    const { x, y } = this.segments.get(id);
    this.choose([id]);
    this.view.hover = 0;
    const place = this.view.toScreen(x, y);
    const { clientWidth, clientHeight } = this.view.canvas;
    if (place.x < 0 || place.y < 0 || place.x > clientWidth || place.y > clientHeight) this.view.show(x, y);
    const { pinned, area } = this.segments.get(id);
    this.say(`Chosen: ${this.nameOf(id)}${pinned === area ? ", pinned" : ""}. Strokes add to it; N begins a new segment.`);
  }

  /** The unpinned segment on which the samples agree least. */
  jumpToUncertain() {
    if (!this.confidence) {
      this.say("How sure the model is is still being computed.");
      return;
    }
    const sums = new Map();
    this.cells.forEach((cell, i) => {
      if (!cell || cell > IDS) return;
      const one = sums.get(cell) || [0, 0];
      one[0] += this.confidence[i];
      one[1] += 1;
      sums.set(cell, one);
    });
    const order = [...sums].filter(([, [, count]]) => count > 30).sort((a, b) => a[1][0] / a[1][1] - b[1][0] / b[1][1]);
    const at = order.findIndex(([id]) => id === this.chosen[0]);
    if (order.length) this.goTo(order[(at + 1) % order.length][0]);
    else this.say("Everything is pinned.");
  }
}
