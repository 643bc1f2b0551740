// Mouse, pen and fingers on the canvas; and the same tools by keyboard.
import { Mask } from "./raster.js";
import { predict } from "./map.js";

const POINT = 4; // map pixels: the radius of what a click says

export class Pointer {
  constructor(editor, canvas) {
    this.editor = editor;
    this.view = editor.view;
    this.canvas = canvas;
    this.stroke = null;
    this.fingers = new Map();
    this.space = false;
    this.panning = null;
    this.place = null; // of the cursor, in map pixels
    canvas.addEventListener("pointerdown", (e) => this.down(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.up(e));
    canvas.addEventListener("pointercancel", (e) => this.cancelled(e));
    canvas.addEventListener("pointerleave", () => this.showCursor(null));
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
  }

  spot(event) {
    const box = this.canvas.getBoundingClientRect();
    const spot = this.view.toMap(event.clientX - box.left, event.clientY - box.top);
    const pen = event.pointerType === "pen" && event.pressure > 0;
    return { ...spot, r: (this.editor.size / 2) * (pen ? 0.25 + 0.75 * event.pressure : 1) };
  }

  wheel(event) {
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    const amount = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    this.view.zoom(Math.exp(-amount * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }

  // ------------------------------------------------------------------------------------------------------------------ events
  down(event) {
    if (!this.editor.cells) return;
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, event);
      if (this.fingers.size === 2) {
        this.abort();
        this.pinch = this.pinched();
        return;
      }
    }
    if (event.button === 1 || event.button === 2 || this.space) {
      this.panning = { x: event.clientX, y: event.clientY };
      return;
    }
    if (event.button === 0) this.begin(this.spot(event), event);
  }

  move(event) {
    if (!this.editor.cells) return;
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, event);
    if (this.fingers.size === 2) {
      const now = this.pinched();
      this.view.pan(now.x - this.pinch.x, now.y - this.pinch.y);
      const box = this.canvas.getBoundingClientRect();
      this.view.zoom(now.away / this.pinch.away, now.x - box.left, now.y - box.top);
      this.pinch = now;
    } else if (this.panning) {
      this.view.pan(event.clientX - this.panning.x, event.clientY - this.panning.y);
      this.panning = { x: event.clientX, y: event.clientY };
    } else if (this.stroke) {
      const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const one of events.length ? events : [event]) this.go(this.spot(one));
    }
    if (event.pointerType !== "touch") this.showCursor(this.spot(event));
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    if (this.panning) this.panning = null;
    else if (this.stroke) this.end(this.spot(event));
  }

  cancelled(event) {
    this.fingers.delete(event.pointerId);
    this.panning = null;
    this.abort();
  }

  pinched() {
    const [a, b] = [...this.fingers.values()];
    const away = Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));
    return { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, away };
  }

  showCursor(spot) {
    this.place = spot;
    const { tool } = this.editor;
    this.view.cursor = spot && ["brush", "eraser", "split"].includes(tool) ? { ...spot, r: tool === "split" ? 1 : spot.r } : null;
    this.view.hover = spot && this.editor.cells && tool === "select" ? this.editor.idAt(spot.x, spot.y) : 0;
    this.view.draw();
  }

  // ------------------------------------------------------------------------------------------------------------------ tools
  /** A tool touches the map. `keys` has the modifiers. */
  begin(spot, keys = {}) {
    const { editor } = this;
    const tool = keys.altKey ? "select" : editor.tool;
    if (tool === "select") {
      editor.choose([editor.idAt(spot.x, spot.y)], keys.shiftKey || keys.ctrlKey);
      return;
    }
    if (tool === "split" && !editor.chosen.length) editor.choose([editor.idAt(spot.x, spot.y)]);
    if ((tool === "point" || tool === "box") && !keys.shiftKey) editor.choose([]);
    editor.drawing = editor.cells.slice();
    const mask = new Mask(editor.told.width, editor.told.height);
    this.stroke = { tool, mask, points: [spot], last: spot, from: spot, ...editor.target(spot.x, spot.y) };
    this.go(spot);
  }

  go(spot) {
    const { stroke, editor } = this;
    const { tool, mask, last } = stroke;
    stroke.last = spot;
    if (tool === "brush" || tool === "eraser") {
      const [from, to] = [mask.top, mask.bottom];
      mask.line(last, spot);
      this.preview(Math.min(from, mask.top), Math.max(to, mask.bottom), last, spot);
    } else if (tool === "split") {
      mask.line({ ...last, r: 1 }, { ...spot, r: 1 });
      this.view.cursor = { ...spot, r: 1 };
    } else if (tool === "point") mask.disc(spot.x, spot.y, POINT);
    else if (tool === "lasso") {
      stroke.points.push(spot);
      const xs = stroke.points.map((p) => p.x);
      const ys = stroke.points.map((p) => p.y);
      this.view.box = { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
    } else if (tool === "box") {
      this.view.box = {
        left: Math.min(stroke.from.x, spot.x),
        right: Math.max(stroke.from.x, spot.x),
        top: Math.min(stroke.from.y, spot.y),
        bottom: Math.max(stroke.from.y, spot.y),
      };
    }
    if (tool === "lasso") this.trace(stroke);
    editor.view.draw();
  }

  /** The stroke so far, on the map: what it will be when it ends. */
  preview(top, bottom) {
    const { editor, stroke } = this;
    editor.cells.set(editor.drawing);
    predict(editor.cells, this.operation(stroke));
    this.view.changedRows(editor.cells, Math.max(0, top), bottom);
    if (!editor.segments.has(stroke.id)) {
      editor.told.labels[stroke.id] = editor.told.labels[stroke.id] || [stroke.category ?? null, stroke.color ?? 0];
      editor.coloured(stroke.id);
    }
  }

  /** The outline of a lasso, drawn as pixels of the segment. */
  trace(stroke) {
    const { editor } = this;
    const line = new Mask(editor.told.width, editor.told.height);
    const r = Math.max(0.7, 1.2 / this.view.scale);
    stroke.points.slice(1).forEach((p, i) => line.line({ ...stroke.points[i], r }, { ...p, r }));
    editor.cells.set(editor.drawing);
    predict(editor.cells, { kind: "paint", id: stroke.id, runs: line.runs(), over: true });
    this.view.changedRows(editor.cells, 0, editor.told.height);
    if (!editor.segments.has(stroke.id)) this.preview(0, 0);
  }

  operation(stroke) {
    const { tool, mask, id, color, category } = stroke;
    if (tool === "eraser") return { kind: "erase", runs: mask.runs() };
    if (tool === "split") return { kind: "split", id, runs: mask.runs() };
    const { over } = this.editor;
    const paint = { kind: "paint", id, runs: mask.runs(), pin: true, over };
    if (color !== undefined) Object.assign(paint, { color, category });
    if (tool === "box") Object.assign(paint, { pin: false, within: stroke.within });
    if (tool === "lasso") paint.grow = false;
    if (tool === "point") paint.within = [0, 0, this.editor.told.height, this.editor.told.width]; // a click says nothing of the size
    return paint;
  }

  end(spot) {
    const { stroke, editor } = this;
    if (stroke.tool === "lasso") stroke.mask.polygon(stroke.points);
    if (stroke.tool === "box" && !this.boxed(stroke, spot)) {
      this.abort();
      return;
    }
    this.stop();
    if (stroke.mask.empty) {
      editor.refreshIfBehind();
      return;
    }
    const operation = this.operation(stroke);
    editor.act(operation);
    if (["brush", "point", "lasso", "box"].includes(stroke.tool)) editor.choose([stroke.id]);
  }

  boxed(stroke, spot) {
    const { width, height } = this.editor.told;
    const clip = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
    const top = clip(Math.min(stroke.from.y, spot.y), height);
    const bottom = clip(Math.max(stroke.from.y, spot.y), height);
    const left = clip(Math.min(stroke.from.x, spot.x), width);
    const right = clip(Math.max(stroke.from.x, spot.x), width);
    if (bottom - top < 3 || right - left < 3) return false;
    stroke.within = [top, left, bottom, right];
    stroke.mask.core(stroke.within);
    return true;
  }

  /** The map as it was before the stroke. */
  stop() {
    const { editor } = this;
    this.stroke = null;
    this.view.box = null;
    editor.cells.set(editor.drawing);
    editor.drawing = null;
  }

  /** Forget the stroke that is being drawn. */
  abort() {
    if (!this.stroke) return;
    this.stop();
    this.editor.showAll();
    this.editor.refreshIfBehind();
  }

  // ---------------------------------------------------------------------------------------------------------------- keyboard
  /** Move the cursor by map pixels; a tool that touches the map draws. */
  nudge(dx, dy) {
    const { told } = this.editor;
    if (!told) return;
    const at = this.place || { x: told.width / 2, y: told.height / 2 };
    const clip = (value, most) => Math.min(most - 0.5, Math.max(0.5, value));
    const spot = { x: clip(at.x + dx, told.width), y: clip(at.y + dy, told.height), r: this.editor.size / 2 };
    if (this.stroke) this.go(spot);
    this.showCursor(spot);
    if (!this.view.cursor) this.view.cursor = { ...spot, r: 5 / this.view.scale };
    this.view.draw();
  }

  /** Put the tool down at the cursor, or lift it. */
  press(keys) {
    if (!this.editor.cells) return;
    if (!this.place) this.nudge(0, 0);
    if (this.stroke) this.end(this.place);
    else {
      this.begin(this.place, keys);
      if (this.stroke && this.stroke.tool === "point") this.end(this.place);
    }
  }
}
