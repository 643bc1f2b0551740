// Pixels of strokes, boxes and polygons, and the runs in which they are sent.

export class Mask {
  /** A set of pixels of a map of this size, grown by drawing. */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.on = new Uint8Array(width * height);
    this.top = height;
    this.bottom = 0;
  }

  get empty() {
    return this.top >= this.bottom;
  }

  /** Pixels from column `left` to before `right` of one row. */
  row(y, left, right) {
    if (y < 0 || y >= this.height) return;
    const from = Math.max(0, left);
    const to = Math.min(this.width, right);
    if (from >= to) return;
    this.on.fill(1, y * this.width + from, y * this.width + to);
    this.top = Math.min(this.top, y);
    this.bottom = Math.max(this.bottom, y + 1);
  }

  /** The pixels whose centres lie within `radius` of a point; at least the pixel that the point is in. */
  disc(x, y, radius) {
    this.row(Math.floor(y), Math.floor(x), Math.floor(x) + 1);
    for (let row = Math.floor(y - radius); row <= Math.ceil(y + radius); row++) {
      const away = row + 0.5 - y;
      const square = radius * radius - away * away;
      if (square < 0) continue;
      const half = Math.sqrt(square);
      this.row(row, Math.ceil(x - half - 0.5), Math.floor(x + half - 0.5) + 1);
    }
  }

  /** Discs from one point to another, so close that no gap is left. */
  line(from, to) {
    const length = Math.hypot(to.x - from.x, to.y - from.y);
    const steps = Math.max(1, Math.ceil(length / Math.max(0.5, Math.min(from.r, to.r) / 3)));
    for (let step = 1; step <= steps; step++) {
      const t = step / steps;
      this.disc(from.x + (to.x - from.x) * t, from.y + (to.y - from.y) * t, from.r + (to.r - from.r) * t);
    }
  }

  /** The inside of a closed polygon of {x, y}, even-odd. */
  polygon(points) {
    const ys = points.map((p) => p.y);
    for (let row = Math.floor(Math.min(...ys)); row <= Math.ceil(Math.max(...ys)); row++) {
      const y = row + 0.5;
      const crossings = [];
      points.forEach((a, i) => {
        const b = points[(i + 1) % points.length];
        if (a.y <= y !== b.y <= y) crossings.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        this.row(row, Math.ceil(crossings[i] - 0.5), Math.ceil(crossings[i + 1] - 0.5));
      }
    }
  }

  /** The ellipse in the middle of a box, half as wide and high. */
  core(box) {
    const [top, left, bottom, right] = box;
    const [cy, cx, ry, rx] = [(top + bottom) / 2, (left + right) / 2, (bottom - top) / 4, (right - left) / 4];
    this.row(Math.floor(cy), Math.floor(cx), Math.floor(cx) + 1);
    for (let row = Math.floor(cy - ry); row <= Math.ceil(cy + ry); row++) {
      const share = (row + 0.5 - cy) / ry;
      if (share * share > 1) continue;
      const half = rx * Math.sqrt(1 - share * share);
      this.row(row, Math.ceil(cx - half - 0.5), Math.floor(cx + half - 0.5) + 1);
    }
  }

  /** gap, length, gap, length, ..: pixels counted along the rows, each gap from the end of the run before it. */
  runs() {
    const found = [];
    const end = this.bottom * this.width;
    let last = 0;
    let at = this.on.indexOf(1, this.top * this.width);
    while (at !== -1 && at < end) {
      let stop = this.on.indexOf(0, at);
      if (stop === -1) stop = this.on.length;
      found.push(at - last, stop - at);
      last = stop;
      at = this.on.indexOf(1, stop);
    }
    return found;
  }
}

/** Calls `visit(from, to)` for each run of pixels. */
export function eachRun(runs, visit) {
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const from = at + runs[i];
    at = from + runs[i + 1];
    visit(from, at);
  }
}
