"""The report's style, and the script that shows values under the pointer. Nothing is loaded from elsewhere."""

CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b1f27; --soft: #5a6272; --rule: #dfe3ea; --grid: #e9ecf1;
  --s1: #2563c9; --s2: #c2570c; --s3: #0f8a6d; --mark: #b98900; --hit: #fff9e6; --hit-ink: #6a4d00; --bar: #e3e7ee;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --ink: #e7eaf0; --soft: #9aa4b5; --rule: #2d3440;
  --grid: #29303b; --s1: #78a9ff; --s2: #ff9d57; --s3: #45cba8; --mark: #e0b93c; --hit: #3a3216; --hit-ink: #f2d98a; --bar: #2d3440; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 2px 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 38px 0 12px; }
h3 { font-size: .85rem; margin: 0 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 10px; } small, .soft { color: var(--soft); } small { font-weight: 400; font-size: .8rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .84em; }
.kind { color: var(--soft); font-size: .9rem; }
.state { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: .85rem; font-weight: 600; margin-right: 8px;
  background: var(--bar); }
.state.done { background: color-mix(in srgb, var(--s3) 18%, var(--card)); color: var(--s3); }
.state.going { background: color-mix(in srgb, var(--s1) 18%, var(--card)); color: var(--s1); }
.progress { height: 6px; border-radius: 3px; background: var(--bar); margin: 12px 0 0; overflow: hidden; }
.progress i { display: block; height: 100%; background: var(--s1); }
.card, .chart, .tiles > div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.card { padding: 14px 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; margin: 20px 0 0; }
.tiles > div { padding: 10px 14px 12px; }
.tiles dt { color: var(--soft); font-size: .82rem; } .tiles dd { margin: 0; font-size: 1.3rem; line-height: 1.3; font-weight: 600;
  white-space: nowrap; }
.tiles dd small { display: block; line-height: 1.35; white-space: normal; }
.note { border-left: 3px solid var(--mark); background: var(--hit); color: var(--hit-ink); padding: 8px 12px; border-radius: 0 8px 8px 0;
  margin: 16px 0 0; font-size: .92rem; }
.charts { display: grid; grid-template-columns: repeat(6, 1fr); gap: 14px; }
.chart { margin: 0; padding: 12px 16px 10px; grid-column: span 2; min-width: 0; }
.chart:first-child, .chart:nth-child(2) { grid-column: span 3; } .chart:first-child .plot, .chart:nth-child(2) .plot { height: 240px; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 14px; align-items: baseline; font-size: .92rem; }
.readout { display: flex; flex-wrap: wrap; gap: 0 12px; font-variant-numeric: tabular-nums; font-size: .85rem; }
.readout em { font-style: normal; font-weight: 600; } .at { color: var(--soft); }
.v.s1 { color: var(--s1); } .v.s2 { color: var(--s2); } .v.s3 { color: var(--s3); }
.plot { position: relative; height: 150px; margin: 10px 4px 24px 46px; touch-action: pan-y; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.grid { stroke: var(--grid); } .line { stroke-width: 2; } .raw { stroke-width: 1; opacity: .4; }
.dots { stroke-width: 7; stroke-linecap: round; }
.mark { stroke: var(--mark); stroke-dasharray: 3 4; }
path.s1 { stroke: var(--s1); } path.s2 { stroke: var(--s2); } path.s3 { stroke: var(--s3); }
.plot span { position: absolute; font-size: .72rem; color: var(--soft); line-height: 1; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.plot .y { right: calc(100% + 7px); transform: translateY(-50%); } .plot .x { top: calc(100% + 8px); transform: translateX(-50%); }
.cursor { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--soft); display: none; pointer-events: none; }
.scroll { overflow: auto; max-height: 460px; padding: 0; } .scroll + .scroll { margin-top: 14px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: 6px 16px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; position: sticky; top: 0; background: var(--card); }
tr:has(td > b) td { background: var(--hit); color: var(--hit-ink); font-weight: 600; }
.text td, .text th { text-align: left; white-space: normal; } .text td:first-child { white-space: nowrap; }
.strip { display: flex; gap: 16px; overflow-x: auto; padding: 2px 2px 12px; scroll-snap-type: x proximity; align-items: flex-start; }
.strip figure { margin: 0; flex: none; scroll-snap-align: start; max-width: 100%; }
.strip img { display: block; max-width: 100%; height: auto; border-radius: 8px; border: 1px solid var(--rule); }
.strip figcaption { padding: 0 2px 6px; }
@media (prefers-color-scheme: dark) { .strip img { filter: brightness(.88); } }
.groups { columns: 3 300px; column-gap: 14px; } .groups .card { break-inside: avoid; margin: 0 0 14px; }
.set { display: flex; gap: 12px; justify-content: space-between; font-size: .87rem; padding: 2px 6px; margin: 0 -6px; border-radius: 5px; }
.set > :last-child { text-align: right; overflow-wrap: anywhere; min-width: 30%; }
.set .was { display: block; font-size: .76rem; opacity: .85; }
.set.changed { background: var(--hit); color: var(--hit-ink); box-shadow: inset 3px 0 var(--mark); padding-left: 10px; }
.set.changed + .set.changed { margin-top: 2px; } .set.changed b { font-weight: 700; } .set b { font-weight: 400; }
.only { display: inline-flex; gap: 8px; align-items: center; cursor: pointer; margin-bottom: 12px; font-size: .92rem; }
.config:has(.only input:checked) :is(.set:not(.changed), .card:not(:has(.changed))) { display: none; }
details { margin-top: 4px; } summary { cursor: pointer; } pre { overflow-x: auto; }
footer { margin-top: 40px; color: var(--soft); font-size: .85rem; }
@media (max-width: 860px) { .chart { grid-column: span 3; } }
@media (max-width: 620px) { main { padding: 20px 14px 36px; } .charts .chart { grid-column: 1 / -1; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tiles dd { font-size: 1.2rem; } th, td { padding: 6px 10px; } .chart:first-child .plot, .chart:nth-child(2) .plot { height: 190px; } }
@media print { .scroll { max-height: none; } .strip { flex-wrap: wrap; } }
"""

SCRIPT = """
for (const plot of document.querySelectorAll(".plot")) {
  const rows = JSON.parse(plot.dataset.series), end = Math.max(1, Number(plot.dataset.end));
  const cursor = plot.querySelector(".cursor"), figure = plot.closest("figure");
  const values = figure.querySelectorAll(".v output"), at = figure.querySelector(".at output");
  const resting = [...values, at].map(output => output.textContent);
  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (steps[middle] < step) low = middle; else high = middle; }
    return step - steps[low] <= steps[high] - step ? low : high;
  };
  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect(), wanted = (event.clientX - box.left) / box.width * end;
    const step = rows[0].steps[nearest(rows[0].steps, wanted)];
    rows.forEach((row, i) => { values[i].textContent = row.texts[nearest(row.steps, step)]; });
    at.textContent = step.toLocaleString("en");
    cursor.style.left = 100 * step / end + "%";
    cursor.style.display = "block";
  });
  plot.addEventListener("pointerleave", () => {
    [...values, at].forEach((output, i) => { output.textContent = resting[i]; });
    cursor.style.display = "none";
  });
}
"""
