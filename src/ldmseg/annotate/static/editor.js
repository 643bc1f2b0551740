// What the page knows and does: the photo that is open, the operations on their way to the server, what is chosen.
import * as api from "./api.js";
import { checksum, decode, IDS, measure, predict } from "./map.js";

const RETRY = 1000; // milliseconds between tries while the server does not answer
const KEPT = ["size", "opacity", "theme", "over"];

export class Editor extends EventTarget {
  constructor(view) {
    super();
    this.view = view;
    this.project = null;
    this.key = null;
    this.cells = null;
    this.told = null; // what the server said of the state that is shown
    this.queue = []; // operations that the server has not answered yet, the first of them is on its way
    this.sending = false;
    this.acts = 0; // operations so far
    this.drawing = null; // a copy of the map from before the stroke that is being drawn
    this.behind = false; // the server has a newer map than the one that is shown
    this.tool = "brush";
    this.chosen = []; // ids; the first is the one that is painted
    this.size = 24;
    this.opacity = 0.5;
    this.over = false;
    this.theme = "auto";
    this.mode = "map";
    this.stage = "loading";
    this.online = true;
    this.message = "";
    this.mismatches = 0; // times that the server's map was another than the one here: 0, or something is wrong
    this.confidence = null;
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
      Object.assign(this, JSON.parse(localStorage.getItem("ldmseg") || "{}"));
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

  // ------------------------------------------------------------------------------------------------------------------ photos
  async start() {
    this.project = await api.getProject();
    this.stage = this.project.stage;
    api.listen((kind, values) => this.heard(kind, values));
    const first = this.photos.find((p) => !p.problem && !p.finished) || this.photos.find((p) => !p.problem);
    this.changed();
    if (first) await this.open(first.key);
    else this.say("None of the photos can be read.");
  }

  get photos() {
    return this.project ? this.project.photos : [];
  }

  get entry() {
    return this.photos.find((p) => p.key === this.key);
  }

  get waiting() {
    return this.queue.length;
  }

  async open(key) {
    if (this.queue.length || this.drawing) {
      this.say("Changes are still on their way to the server.");
      return;
    }
    this.key = key;
    this.cells = null;
    this.chosen = [];
    this.confidence = null;
    this.say("Loading the photo.");
    try {
      const picture = new Image();
      picture.src = api.imageUrl(key);
      await Promise.all([picture.decode(), api.openPhoto(key)]);
      if (this.key !== key) return;
      await this.load();
      this.view.setPhoto(picture);
      this.view.fit();
      this.say("");
      await this.loadConfidence();
    } catch (error) {
      this.say(error.message);
    }
  }

  step(by) {
    const photos = this.photos.filter((p) => !p.problem);
    const at = photos.findIndex((p) => p.key === this.key);
    if (photos.length) this.open(photos[(at + by + photos.length) % photos.length].key);
  }

  async finish(finished = !this.entry.finished) {
    if (this.queue.length) return;
    try {
      Object.assign(this.entry, await api.setFinished(this.key, finished));
      this.changed();
      if (finished) {
        const next = this.photos.find((p) => !p.finished && !p.problem);
        if (next) this.open(next.key);
        else this.say("All photos are finished.");
      }
    } catch (error) {
      this.say(error.message);
    }
  }

  /** Show the server's map, unless something here is newer. */
  async load() {
    const { key, acts } = this;
    const { told, cells } = decode(await api.getMap(key));
    if (this.key !== key || this.queue.length || this.drawing) {
      this.behind = this.key === key;
      return false;
    }
    if (this.acts !== acts) return this.load(); // what came may be from before an operation that is done by now
    this.behind = false;
    this.cells = cells;
    this.told = told;
    this.showAll();
    return true;
  }

  showAll() {
    if (!this.cells) return;
    this.view.setCells(this.cells, this.told.width, this.told.height);
    this.measured();
  }

  /** After any change of the map: areas, colours, and what is chosen. */
  measured() {
    this.segments = measure(this.cells, this.told.width);
    this.chosen = this.chosen.filter((id) => this.segments.has(id));
    this.view.chosen = this.chosen;
    this.view.setColors(new Map([...this.segments.keys()].map((id) => [id, this.colorOf(id)])));
    this.changed();
  }

  async loadConfidence() {
    const key = this.key;
    const values = await api.getConfidence(key);
    if (this.key !== key) return;
    this.confidence = values;
    if (values) this.view.setConfidence(values, this.told.width, this.told.height);
    this.changed();
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

  // ------------------------------------------------------------------------------------------------------------------ operations
  /** Do something to the map: here at once, at the server as soon as it answers. */
  act(operation) {
    if (!this.cells) return;
    const known = predict(this.cells, operation);
    if (operation.kind === "paint" && !this.told.labels[operation.id]) {
      this.told.labels[operation.id] = [operation.category ?? null, operation.color ?? 0];
      this.told.next = Math.max(this.told.next, operation.id + 1);
    }
    if (operation.kind === "classify") operation.ids.forEach((id) => (this.told.labels[id] = [operation.category, this.labelOf(id)[1]]));
    this.queue.push({ operation, known });
    this.acts += 1;
    this.message = "";
    if (known) this.showAll();
    this.confidence = null;
    this.changed();
    this.pump();
  }

  async pump() {
    if (this.sending) return;
    this.sending = true;
    while (this.queue.length) {
      const { operation, known } = this.queue[0];
      try {
        const told = await api.operate(this.key, operation, this.told.revision);
        this.online = true;
        this.queue.shift();
        this.answered(told, known);
      } catch (error) {
        if (!(error instanceof api.Refused)) {
          this.online = false;
          this.say("The server does not answer; changes wait here until it does.");
          await new Promise((done) => setTimeout(done, RETRY));
        } else if (error.status === 412) await this.rebased();
        else {
          this.queue = [];
          this.behind = true;
          this.say(error.message);
        }
      }
    }
    this.sending = false;
    if (this.behind && !this.drawing) await this.load();
  }

  /** The server has done the first operation of the queue. */
  answered(told, known) {
    const labels = this.queue.length ? { ...told.labels, ...this.told.labels } : told.labels;
    this.told = { ...told, labels };
    if (!known) this.behind = true;
    else if (!this.behind && !this.queue.length && !this.drawing && checksum(this.cells) !== told.checksum) {
      this.mismatches += 1;
      this.behind = true;
    }
    if (!this.queue.length && !this.behind) this.measured();
    if (this.message.startsWith("The server does not")) this.message = "";
    this.changed();
  }

  /** The map was changed elsewhere: what was painted here is done again on top of it. */
  async rebased() {
    const again = this.queue.filter(({ operation }) => ["paint", "erase", "classify"].includes(operation.kind));
    this.queue = [];
    const drawing = this.drawing;
    this.drawing = null;
    if (await this.load()) {
      for (const { operation } of again) this.queue.push({ operation, known: predict(this.cells, operation) });
      if (drawing) this.drawing = this.cells.slice();
      this.showAll();
    }
    this.say("This photo was changed in another window; what you painted was kept on top.");
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

  idAt(x, y) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const { width, height } = this.told;
    return column >= 0 && row >= 0 && column < width && row < height ? this.cells[row * width + column] & IDS : 0;
  }

  choose(ids, add = false) {
    const wanted = ids.filter((id) => id);
    if (!add) this.chosen = wanted;
    else wanted.forEach((id) => (this.chosen = this.chosen.includes(id) ? this.chosen.filter((c) => c !== id) : [...this.chosen, id]));
    this.view.chosen = this.chosen;
    this.view.draw();
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
    this.say(`Segment ${id}${this.classOf(id) ? `, ${this.classOf(id).name}` : ""}`);
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

  // ------------------------------------------------------------------------------------------------------------------ commands
  undo() {
    if (this.told && (this.told.undo || this.queue.length)) this.act({ kind: "undo" });
  }
  redo() {
    if (this.told && this.told.redo) this.act({ kind: "redo" });
  }
  propose() {
    this.act({ kind: "propose" });
  }
  pin(on = true) {
    if (this.chosen.length) this.act({ kind: "pin", ids: this.chosen, on });
  }
  pinAll(on = true) {
    this.act({ kind: "pin", ids: [], on });
  }
  remove() {
    if (this.chosen.length) this.act({ kind: "delete", ids: this.chosen });
  }
  merge() {
    if (this.chosen.length < 2) this.say("Choose the segments to merge with Shift and a click.");
    else {
      const [first] = this.chosen;
      this.act({ kind: "merge", ids: this.chosen });
      this.choose([first]);
    }
  }
  classify(category) {
    if (this.chosen.length) this.act({ kind: "classify", ids: this.chosen, category });
    else {
      this.newCategory = category;
      this.changed();
    }
  }
  fresh() {
    this.choose([]);
    this.say("The next stroke begins a new segment.");
  }

  async setClasses(classes) {
    try {
      this.project.classes = (await api.setClasses(classes)).classes;
      this.changed();
    } catch (error) {
      this.say(error.message);
    }
  }

  // ------------------------------------------------------------------------------------------------------------------ news
  heard(kind, values) {
    if (kind === "offline") this.online = false;
    else if (kind === "hello") {
      this.online = true;
      this.refresh();
    } else if (kind === "stage") this.heardStage(values);
    else if (kind === "changed" && values.photo === this.key && values.by !== api.PAGE) this.refresh();
    else if (kind === "saved") {
      const entry = this.photos.find((p) => p.key === values.photo);
      if (entry) Object.assign(entry, values.entry);
    } else if (kind === "classes") this.project.classes = values.classes;
    else if (kind === "problem") this.message = values.message;
    this.changed();
  }

  heardStage({ photo, stage, revision }) {
    if (!photo || photo === this.key) this.stage = stage;
    if (photo !== this.key) return;
    if (this.told && (stage === "final" || (stage === "first" && revision > this.told.revision))) this.refresh();
    if (stage === "confidence") this.loadConfidence();
    if (stage === "failed") this.message = "The model failed on this photo; you can still paint.";
  }

  refreshIfBehind() {
    if (this.behind && !this.queue.length) this.load();
  }

  refresh() {
    if (!this.cells || this.queue.length || this.drawing) this.behind = this.cells !== null;
    else this.load();
  }
}
