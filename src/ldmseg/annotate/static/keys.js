// Shortcuts: one table, which the help shows too.

export const TOOLS = [
  ["brush", "B", "Brush", "Paint the chosen segment, or a new one"],
  ["eraser", "E", "Eraser", "Free pixels: the model decides again"],
  ["point", "P", "Point", "Click on a thing: a new segment grows from there (Shift: the chosen one)"],
  ["box", "R", "Box", "Draw a box around a thing (Shift: the chosen segment)"],
  ["lasso", "L", "Lasso", "Outline pixels exactly"],
  ["split", "S", "Split", "Cut the chosen segment along a line"],
  ["select", "V", "Select", "Choose a segment (Shift: several; Alt with any tool)"],
];

/** [keys as shown, what they do, the key, modifiers, the action(editor, pointer, view, page)] */
export const SHORTCUTS = [
  ...TOOLS.map(([tool, key, name]) => [key, name, key.toLowerCase(), "", (e) => e.setTool(tool)]),
  ["N", "New segment", "n", "", (e) => e.fresh()],
  ["A", "Accept (pin) the chosen segments", "a", "", (e) => e.pin(true)],
  ["Shift A", "Accept everything", "a", "shift", (e) => e.pinAll(true)],
  ["U", "Unpin the chosen segments", "u", "", (e) => e.pin(false)],
  ["M", "Merge the chosen segments", "m", "", (e) => e.merge()],
  ["Delete", "Delete the chosen segments", "delete", "", (e) => e.remove()],
  ["Backspace", "Delete the chosen segments", "backspace", "", (e) => e.remove()],
  ["1 .. 9", "Class of the chosen segments", "", "", null],
  [". and ,", "Next and previous segment", ".", "", (e) => e.chooseNext(1)],
  ["", "", ",", "", (e) => e.chooseNext(-1)],
  ["J", "Go to the least certain segment", "j", "", (e) => e.jumpToUncertain()],
  ["C", "Propose all that is not pinned anew", "c", "", (e) => e.propose()],
  ["Ctrl Z", "Undo", "z", "ctrl", (e) => e.undo()],
  ["Ctrl Shift Z", "Redo", "z", "ctrl+shift", (e) => e.redo()],
  ["Ctrl Y", "Redo", "y", "ctrl", (e) => e.redo()],
  ["[ and ]", "Smaller and larger brush", "[", "", (e) => e.set("size", Math.max(1, Math.round(e.size / 1.25)))],
  ["", "", "]", "", (e) => e.set("size", Math.min(400, Math.max(e.size + 1, Math.round(e.size * 1.25))))],
  ["X", "Paint over what is pinned, or not", "x", "", (e) => e.set("over", !e.over)],
  ["O", "Outlines only", "o", "", (e) => e.setMode("outlines")],
  ["H", "Photo only", "h", "", (e) => e.setMode("photo")],
  ["K", "How sure the model is", "k", "", (e) => e.setMode("confidence")],
  ["F", "Whole photo", "f", "", (e, p, v) => v.fit()],
  ["G", "100 %", "g", "", (e, p, v) => v.zoom(1 / v.scale)],
  ["+ and −", "Zoom", "+", "", (e, p, v) => v.zoom(1.25)],
  ["", "", "=", "", (e, p, v) => v.zoom(1.25)],
  ["", "", "-", "", (e, p, v) => v.zoom(0.8)],
  ["Space and drag", "Move the photo", "", "", null],
  ["Arrows", "Move the cursor (Shift: by 1 pixel, Alt: the photo)", "", "", null],
  ["Enter", "Put the tool down at the cursor, and lift it", "enter", "", (e, p) => p.press({})],
  ["Shift Enter", "The same, with Shift", "enter", "shift", (e, p) => p.press({ shiftKey: true })],
  ["Esc", "Forget the stroke", "escape", "", (e, p) => p.abort()],
  ["Page Up and Down", "Previous and next photo", "pagedown", "", (e) => e.step(1)],
  ["", "", "pageup", "", (e) => e.step(-1)],
  ["Ctrl Enter", "Photo finished, go to the next", "enter", "ctrl", (e) => e.finish(true)],
  ["T", "Light, dark or as the system", "t", "", (e, p, v, page) => page.nextTheme()],
  ["?", "This list", "?", "", (e, p, v, page) => page.toggleHelp()],
];

const ARROWS = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

export function bindKeys(editor, pointer, page) {
  const { view } = editor;
  window.addEventListener("keydown", (event) => {
    if (page.help) return; // the dialog has its own keys
    const inField = event.target.closest("input, select, textarea, dialog");
    const key = event.key.toLowerCase();
    if (inField && !(event.target.type === "range" && event.ctrlKey)) return;
    const onControl = event.target.closest("button, a, [tabindex]") && event.target !== view.canvas;
    if (onControl && (key === "enter" || key === " ") && !event.ctrlKey) return;
    if (key === " ") {
      pointer.space = true;
      event.preventDefault();
      return;
    }
    if (ARROWS[key] && !event.ctrlKey && !event.metaKey) {
      const [dx, dy] = ARROWS[key];
      if (event.altKey) view.pan(-60 * dx, -60 * dy);
      else {
        const by = event.shiftKey ? 1 : Math.max(1, editor.size / 3);
        pointer.nudge(dx * by, dy * by);
      }
      event.preventDefault();
      return;
    }
    const modifiers = [event.ctrlKey || event.metaKey ? "ctrl" : "", event.shiftKey && event.key !== "?" && event.key !== "+" ? "shift" : ""];
    const held = modifiers.filter(Boolean).join("+");
    if (!held && /^[1-9]$/.test(key)) {
      const one = editor.project.classes[Number(key) - 1];
      if (one) editor.classify(one.id);
      return;
    }
    const found = SHORTCUTS.find(([, , wanted, with_, action]) => action && wanted === key && with_ === held);
    if (!found || event.altKey) return;
    event.preventDefault();
    found[4](editor, pointer, view, page);
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === " ") pointer.space = false;
  });
  window.addEventListener("blur", () => (pointer.space = false));
}
