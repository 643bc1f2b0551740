// The photo and its map on the screen: one WebGL2 shader reads the ids as they are, so that an edit costs one small upload.

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0;
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform sampler2D photo;
uniform usampler2D cells;
uniform sampler2D palette;
uniform sampler2D confidence;
uniform vec2 size;        // of the map, in its pixels
uniform vec2 origin;      // where the map's corner is, in screen pixels from the top left
uniform float scale;      // screen pixels a map pixel
uniform float screen;     // height in screen pixels
uniform float ratio;      // screen pixels a CSS pixel
uniform float opacity;
uniform int mode;         // 0 tint and outlines, 1 outlines, 2 photo alone, 3 confidence
uniform int hover;
uniform vec3 cursor;      // map x, y and radius; radius below 0: none
uniform vec4 box;         // map left, top, right, bottom; right below left: none
uniform vec3 ground;
out vec4 color;

uint cellAt(vec2 p) {
  return texelFetch(cells, ivec2(clamp(p, vec2(0.0), size - 1.0)), 0).r;
}
bool isChosen(int id) {
  return texelFetch(palette, ivec2(id & 255, id >> 8), 0).a > 0.5;
}
float ring(float away, float width) {
  return 1.0 - smoothstep(width * 0.5, width * 0.5 + 1.0, abs(away));
}
void main() {
  vec2 at = vec2(gl_FragCoord.x, screen - gl_FragCoord.y);
  vec2 p = (at - origin) / scale;
  if (p.x < 0.0 || p.y < 0.0 || p.x >= size.x || p.y >= size.y) {
    color = vec4(ground, 1.0);
  } else {
    vec3 seen = texture(photo, p / size).rgb;
    uint cell = cellAt(p);
    int id = int(cell & 0x7fffu);
    bool pinned = (cell & 0x8000u) != 0u;
    vec3 tint = texelFetch(palette, ivec2(id & 255, id >> 8), 0).rgb;
    float step = 1.1 * ratio / scale;
    int near[4] = int[4](int(cellAt(p + vec2(step, 0.0)) & 0x7fffu), int(cellAt(p - vec2(step, 0.0)) & 0x7fffu),
                         int(cellAt(p + vec2(0.0, step)) & 0x7fffu), int(cellAt(p - vec2(0.0, step)) & 0x7fffu));
    bool border = false;
    bool strong = false;
    for (int i = 0; i < 4; i++) {
      if (near[i] != id) {
        strong = strong || isChosen(near[i]) || (!border && isChosen(id));
        border = true;
      }
    }
    if (mode == 3) {
      float sure = texture(confidence, p / size).r;
      float gray = dot(seen, vec3(0.3, 0.59, 0.11));
      seen = mix(vec3(gray), mix(vec3(1.0, 0.85, 0.2), vec3(0.8, 0.1, 0.5), 1.0 - sure), 0.75 * (1.0 - sure) * (pinned ? 0.0 : 1.0));
    }
    if (mode == 0) {
      if (id == 0) {
        float stripe = mod(at.x + at.y, 10.0 * ratio) < 2.0 * ratio ? 1.0 : 0.0;
        seen = mix(seen, vec3(0.5 + 0.5 * stripe), 0.45 * min(1.0, 2.0 * opacity));
      } else {
        float dots = pinned && mod(floor(at.x / ratio), 6.0) < 1.0 && mod(floor(at.y / ratio), 6.0) < 1.0 ? 0.35 : 0.0;
        float amount = opacity * (pinned ? 1.0 : 0.62) + (id == hover ? 0.12 : 0.0);
        seen = mix(seen, tint, clamp(amount, 0.0, 1.0));
        seen = mix(seen, vec3(1.0), dots);
      }
    }
    if (border && mode != 2) {
      float light = dot(seen, vec3(0.3, 0.59, 0.11));
      vec3 line = mode == 1 && id != 0 ? tint : vec3(light > 0.5 ? 0.08 : 0.95);
      seen = strong ? (mod(at.x + at.y, 8.0 * ratio) < 4.0 * ratio ? vec3(1.0) : vec3(0.0)) : mix(seen, line, 0.85);
    }
    color = vec4(seen, 1.0);
  }
  if (cursor.z >= 0.0) {
    float away = (length(p - cursor.xy) - cursor.z) * scale;
    color.rgb = mix(color.rgb, vec3(0.0), ring(away, 3.0 * ratio));
    color.rgb = mix(color.rgb, vec3(1.0), ring(away, 1.0 * ratio));
  }
  if (box.z >= box.x) {
    vec2 low = (p - box.xy) * scale;
    vec2 high = (box.zw - p) * scale;
    float away = min(min(low.x, low.y), min(high.x, high.y));
    if (abs(away) < 1.5 * ratio) color.rgb = mod(at.x + at.y, 8.0 * ratio) < 4.0 * ratio ? vec3(1.0) : vec3(0.0);
  }
}`;

const MODES = { map: 0, outlines: 1, photo: 2, confidence: 3 };

export class View {
  /** Draws on a canvas; throws where the browser has no WebGL2. */
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser has no WebGL2, which the annotator draws with.");
    this.gl = gl;
    this.width = this.height = 1;
    this.x = this.y = 0;
    this.scale = 1;
    this.opacity = 0.5;
    this.mode = "map";
    this.hover = 0;
    this.cursor = null;
    this.box = null;
    this.ground = [0.12, 0.12, 0.13];
    this.fitted = true;
    this.asked = false;
    this.setUp();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.setUp();
      if (this.onRestored) this.onRestored();
    });
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  setUp() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    const places = new Map();
    this.at = (name) => {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name);
    };
    this.textures = {};
    ["photo", "cells", "palette", "confidence"].forEach((name, unit) => {
      const texture = (this.textures[name] = gl.createTexture());
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      const smooth = name === "photo" || name === "confidence";
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, smooth ? gl.LINEAR : gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
      gl.uniform1i(this.at(name), unit);
    });
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.units = { photo: 0, cells: 1, palette: 2, confidence: 3 };
    this.setCells(new Uint16Array(1), 1, 1);
    this.setConfidence(new Uint8Array([255]), 1, 1);
  }

  unit(name) {
    this.gl.activeTexture(this.gl.TEXTURE0 + this.units[name]);
  }

  setPhoto(bitmap) {
    const { gl } = this;
    this.unit("photo");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.generateMipmap(gl.TEXTURE_2D);
    this.draw();
  }

  setCells(cells, width, height) {
    const { gl } = this;
    this.unit("cells");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, width, height, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, cells);
    const changed = width !== this.width || height !== this.height;
    this.width = width;
    this.height = height;
    if (changed) this.fit();
    this.draw();
  }

  /** Rows `top` to before `bottom` of the map have changed. */
  changedRows(cells, top, bottom) {
    if (top >= bottom) return;
    const { gl } = this;
    this.unit("cells");
    const rows = cells.subarray(top * this.width, bottom * this.width);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, top, this.width, bottom - top, gl.RED_INTEGER, gl.UNSIGNED_SHORT, rows);
    this.draw();
  }

  setConfidence(values, width, height) {
    const { gl } = this;
    this.unit("confidence");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, values);
    this.draw();
  }

  /** `colors` has id -> [r, g, b]; the borders of the `chosen` ids are drawn strongly. */
  setColors(colors, chosen = []) {
    const { gl } = this;
    const rows = 1 + (Math.max(0, ...colors.keys()) >> 8);
    const data = new Uint8Array(256 * rows * 4);
    for (const [id, rgb] of colors) data.set(rgb, id * 4);
    for (const id of chosen) data[id * 4 + 3] = 255;
    this.unit("palette");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, rows, 0, gl.RGBA, gl.UNSIGNED_BYTE, data);
    this.draw();
  }

  // ------------------------------------------------------------------------------------------------------------ zoom and place
  resized() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.fitted) this.fit();
    this.draw();
  }

  get ratio() {
    return this.canvas.width / Math.max(1, this.canvas.clientWidth);
  }

  fit() {
    const { width, height } = this.canvas;
    this.scale = 0.96 * Math.min(width / this.width, height / this.height);
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }

  /** Zoom by a factor about a place on the screen, in CSS pixels from the canvas's corner. */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(64, Math.max(0.02, this.scale * factor));
    const [sx, sy] = [x * this.ratio, y * this.ratio];
    this.x = sx - ((sx - this.x) / this.scale) * scale;
    this.y = sy - ((sy - this.y) / this.scale) * scale;
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }

  pan(dx, dy) {
    this.x += dx * this.ratio;
    this.y += dy * this.ratio;
    this.fitted = false;
    this.draw();
  }

  /** Bring a place of the map to the middle of the screen. */
  show(x, y) {
    this.x = this.canvas.width / 2 - x * this.scale;
    this.y = this.canvas.height / 2 - y * this.scale;
    this.fitted = false;
    this.draw();
  }

  /** CSS pixels from the canvas's corner -> map pixels. */
  toMap(x, y) {
    return { x: (x * this.ratio - this.x) / this.scale, y: (y * this.ratio - this.y) / this.scale };
  }

  /** Map pixels -> CSS pixels from the canvas's corner. */
  toScreen(x, y) {
    return { x: (x * this.scale + this.x) / this.ratio, y: (y * this.scale + this.y) / this.ratio };
  }

  // ------------------------------------------------------------------------------------------------------------------ drawing
  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const { gl, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.uniform2f(this.at("size"), this.width, this.height);
    gl.uniform2f(this.at("origin"), this.x, this.y);
    gl.uniform1f(this.at("scale"), this.scale);
    gl.uniform1f(this.at("screen"), canvas.height);
    gl.uniform1f(this.at("ratio"), this.ratio);
    gl.uniform1f(this.at("opacity"), this.opacity);
    gl.uniform1i(this.at("mode"), MODES[this.mode]);
    gl.uniform1i(this.at("hover"), this.hover);
    const { cursor, box } = this;
    gl.uniform3f(this.at("cursor"), cursor ? cursor.x : 0, cursor ? cursor.y : 0, cursor ? cursor.r : -1);
    gl.uniform4f(this.at("box"), ...(box ? [box.left, box.top, box.right, box.bottom] : [0, 0, -1, -1]));
    gl.uniform3f(this.at("ground"), ...this.ground);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 3);
  }
}
