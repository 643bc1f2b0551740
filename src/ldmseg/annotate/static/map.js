// The map that is edited: the same array as the server's, and the same operations on it (ldmseg/annotate/operations.py).
import { eachRun } from "./raster.js";

export const PINNED = 0x8000;
export const IDS = 0x7fff;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

/** CRC-32 of the array's bytes; the server computes the same of its own. */
export function checksum(cells) {
  const bytes = new Uint8Array(cells.buffer, cells.byteOffset, cells.byteLength);
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A map as `/map` sends it: the length of a JSON, the JSON, two bytes a pixel. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { told, cells: new Uint16Array(buffer, 4 + length) };
}

/** What an operation does to the array; false if only the server can say (the map is then loaded anew). */
export function predict(cells, operation) {
  const { kind, ids = [] } = operation;
  if (kind === "paint") paint(cells, operation);
  else if (kind === "erase") eachRun(operation.runs, (from, to) => cells.fill(0, from, to));
  else if (kind === "merge") each(cells, ids, (cell) => (cell & PINNED) | ids[0]);
  else if (kind === "delete") each(cells, ids, () => 0);
  else if (kind === "pin") each(cells, ids, operation.on === false ? (cell) => cell & IDS : (cell) => cell | PINNED);
  else return kind === "classify";
  return true;
}

function paint(cells, { id, runs, pin = true, over = true }) {
  const value = pin ? id | PINNED : id;
  eachRun(runs, (from, to) => {
    for (let i = from; i < to; i++) {
      const cell = cells[i];
      if (cell & PINNED && (!pin || (!over && (cell & IDS) !== id))) continue;
      cells[i] = value;
    }
  });
}

/** Changes the pixels of some segments; none named: of all. */
function each(cells, ids, change) {
  const meant = new Uint8Array(IDS + 1);
  if (ids.length) ids.forEach((id) => (meant[id] = 1));
  else meant.fill(1, 1);
  for (let i = 0; i < cells.length; i++) if (meant[cells[i] & IDS]) cells[i] = change(cells[i]);
}

/** Area, pinned pixels and centre of gravity of each segment, in one pass. */
export function measure(cells, width) {
  const found = new Map();
  for (let start = 0; start < cells.length; ) {
    const cell = cells[start];
    const rowEnd = start - (start % width) + width;
    let end = start + 1;
    while (end < rowEnd && cells[end] === cell) end++;
    const id = cell & IDS;
    if (id) {
      let one = found.get(id);
      if (!one) found.set(id, (one = { id, area: 0, pinned: 0, x: 0, y: 0 }));
      const length = end - start;
      one.area += length;
      if (cell & PINNED) one.pinned += length;
      one.x += length * ((start % width) + length / 2);
      one.y += length * (Math.floor(start / width) + 0.5);
    }
    start = end;
  }
  for (const one of found.values()) {
    one.x /= one.area;
    one.y /= one.area;
  }
  return found;
}
