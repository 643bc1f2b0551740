// The page: an editor on a canvas, and the panels around it.
import { html, render } from "./vendor/htm-preact-standalone.js";
import { Editor } from "./editor.js";
import { bindKeys } from "./keys.js";
import { App } from "./panels.js";
import { Pointer } from "./pointer.js";
import { View } from "./view.js";

const THEMES = ["auto", "light", "dark"];

class Page {
  constructor() {
    this.help = false;
    this.asked = false;
    const canvas = document.getElementById("canvas");
    try {
      this.view = new View(canvas);
    } catch (error) {
      document.getElementById("panels").textContent = error.message;
      document.body.dataset.ready = "failed";
      return;
    }
    this.editor = new Editor(this.view);
    this.pointer = new Pointer(this.editor, canvas);
    bindKeys(this.editor, this.pointer, this);
    this.editor.addEventListener("change", () => this.draw());
    window.addEventListener("beforeunload", (event) => {
      if (this.editor.waiting) event.preventDefault();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.themed());
    this.themed();
    this.draw();
    this.editor.start().catch((error) => this.editor.say(error.message));
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.themed();
      render(html`<${App} editor=${this.editor} page=${this} />`, document.getElementById("panels"));
      this.told();
    });
  }

  /** What tests and assistive programs can read off the page. */
  told() {
    const { editor } = this;
    const { dataset } = document.body;
    dataset.ready = editor.cells ? "yes" : "no";
    dataset.stage = editor.stage;
    dataset.awaits = editor.told ? editor.told.awaits : "";
    dataset.revision = editor.told ? editor.told.revision : "";
    dataset.waiting = editor.waiting + (editor.sending || editor.behind ? 1 : 0);
    dataset.online = editor.online ? "yes" : "no";
    dataset.mismatches = editor.mismatches;
    dataset.photo = editor.entry ? editor.entry.name : "";
    dataset.confidence = editor.confidence ? "yes" : "no";
  }

  themed() {
    const { theme } = this.editor;
    const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    const ground = dark ? [0.11, 0.11, 0.12] : [0.86, 0.86, 0.87];
    if (ground[0] !== this.view.ground[0]) {
      this.view.ground = ground;
      this.view.draw();
    }
  }

  nextTheme() {
    this.editor.set("theme", THEMES[(THEMES.indexOf(this.editor.theme) + 1) % THEMES.length]);
  }

  toggleHelp() {
    this.help = !this.help;
    this.draw();
    if (!this.help) document.getElementById("canvas").focus();
  }

  zoomText() {
    return this.editor.cells ? `${Math.round((100 * this.view.scale) / this.view.ratio)} %` : "";
  }
}

globalThis.ldmseg = new Page();
