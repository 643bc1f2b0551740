// What the page does: the photo that is open, the operations on their way to the server, and the news from there.
import * as api from "./api.js";
import { checksum, decode, predict } from "./map.js";
import { Shown } from "./shown.js";

const SILENT = "The annotator does not answer. What you paint is kept here and sent as soon as it runs again.";
const STRANGER = "The annotator runs at a new address: open the one that it printed, in this browser. What you paint is kept here until then.";

export class Editor extends Shown {
  constructor(view) {
    super(view);
    this.key = null;
    this.queue = []; // operations that the server has not answered yet, the first of them is on its way
    this.sending = false;
    this.acts = 0; // operations so far
    this.drawing = null; // a copy of the map from before the stroke that is being drawn
    this.behind = false; // the server has a newer map than the one that is shown
    this.finishing = false;
    this.stage = "loading";
    this.online = true;
    this.mismatches = 0; // times that the server's map was another than the one here: 0, or something is wrong
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

  /** Changes that the server does not have yet. */
  get waiting() {
    return this.queue.length + (this.finishing ? 1 : 0);
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
    if (this.waiting || !this.cells) return;
    this.finishing = true;
    this.say(finished ? "Saving the finished photo." : "");
    try {
      const { key } = this;
      const values = await api.setFinished(key, finished);
      Object.assign(this.photos.find((p) => p.key === key), values);
      this.finishing = false;
      const next = finished && this.photos.find((p) => !p.finished && !p.problem);
      if (next) await this.open(next.key);
      else this.say(finished ? "All photos are finished." : "");
    } catch (error) {
      this.say(error.message);
    } finally {
      this.finishing = false;
      this.changed();
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
    this.take(told, cells);
    this.showAll();
    return true;
  }

  take(told, cells) {
    this.behind = false;
    this.cells = cells;
    this.told = told;
  }

  async loadConfidence() {
    const key = this.key;
    const values = await api.getConfidence(key).catch(() => null); // without an answer it is not known, as before
    if (this.key !== key) return;
    this.confidence = values;
    if (values) this.view.setConfidence(values, this.told.width, this.told.height);
    this.changed();
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
      const { revision } = this.told;
      try {
        const told = await api.operate(this.key, operation, revision);
        this.online = true;
        this.queue.shift();
        this.answered(told, known);
        if (operation.kind === "split" && told.revision === revision) this.say("The line leaves the segment in one piece: draw it from edge to edge.");
      } catch (error) {
        await this.refused(error);
      }
    }
    this.sending = false;
    if (this.behind) this.refresh();
    this.changed();
  }

  async refused(error) {
    const stranger = error instanceof api.Refused && error.status === 403;
    if (!(error instanceof api.Refused) || stranger) {
      this.online = false;
      this.say(stranger ? STRANGER : SILENT);
      await new Promise((done) => setTimeout(done, api.RETRY));
    } else if (error.status === 412) await this.rebased().catch((other) => this.refused(other));
    else {
      this.queue = [];
      this.behind = true;
      this.say(error.message);
    }
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
    if (this.message === SILENT || this.message === STRANGER) this.message = "";
    this.changed();
  }

  /** The map was changed elsewhere: what was painted here is done again on top of it. */
  async rebased() {
    const { told, cells } = decode(await api.getMap(this.key));
    this.take(told, cells);
    this.queue = this.queue.filter(({ operation }) => ["paint", "erase", "classify"].includes(operation.kind));
    for (const one of this.queue) one.known = predict(this.cells, one.operation);
    if (this.drawing) this.drawing = this.cells.slice();
    this.showAll();
    this.say("This photo was changed in another window; what you painted was kept on top.");
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
    if (kind === "offline") {
      this.online = false;
      this.message = values.stranger ? STRANGER : SILENT;
    } else if (kind === "hello") {
      this.online = true;
      if (this.message === SILENT || this.message === STRANGER) this.message = "";
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
    if (this.behind) this.refresh();
  }

  refresh() {
    if (!this.cells || this.queue.length || this.drawing) this.behind = this.cells !== null;
    else this.load().catch(() => (this.behind = true));
  }
}
