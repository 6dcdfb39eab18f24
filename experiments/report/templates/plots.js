"use strict";
// The figures of the page, drawn with Observable Plot (vendor/) in the width that there is, and again when it changes.
const lookOf = Object.fromEntries(JSON.parse(document.getElementById("page-data").textContent).looks.map((look, i) => [look.method, { ...look, paint: `var(--m${i})` }]));
const wordsOf = method => lookOf[method]?.words ?? method;
const signed = value => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(2);
const longest = (names, least) => Math.max(least, ...names.map(name => name.length * 6.6 + 14));

// A legend as a list: line with its dash, symbol and words.
function legend(entries) {
  const list = document.createElement("ul");
  list.className = "legend";
  for (const { words, paint, dash = [], symbol } of entries) {
    const item = document.createElement("li"), text = document.createElement("span");
    item.className = "key";
    const drawn = Plot.plot({ width: 34, height: 14, margin: 0, axis: null, x: { domain: [0, 34], range: [0, 34] }, y: { domain: [0, 14], range: [0, 14] }, symbol: { domain: [symbol ?? "circle"], range: [symbol ?? "circle"] },
      marks: [Plot.line([[1, 7], [33, 7]], { stroke: paint, strokeWidth: 2, strokeDasharray: dash.join(" ") || null }), ...(symbol ? [Plot.dot([[17, 7]], { fill: paint, stroke: paint, symbol: () => symbol, r: 4 })] : [])] });
    drawn.setAttribute("aria-hidden", "true");
    text.textContent = words;
    item.append(drawn, text);
    list.append(item);
  }
  return list;
}

const PLOTS = {};

// Gains with two intervals: thick of patients, thin of runs and patients; cohorts are panels.
PLOTS.forest = (place, { gains, contrasts }, width) => {
  const cohorts = [...new Set(gains.map(g => g.cohort))], structures = [...new Set(gains.map(g => g.structure))];
  const key = g => `${g.method}|${g.baseline}`, order = contrasts.map(key), left = Math.min(longest(structures, 60), width / 2.6);
  const known = Object.fromEntries(contrasts.map(c => [key(c), { ...lookOf[c.look] ?? c, paint: lookOf[c.look]?.paint ?? c.color }]));
  const ends = gains.flatMap(g => [g.points, g.patients_low, g.patients_high, g.runs_low, g.runs_high].filter(v => v !== null));
  const panels = document.createElement("div");
  panels.className = "panels";
  const wide = Math.max(300, cohorts.length > 1 && width > 760 ? width / Math.min(3, cohorts.length) - 26 : width);
  panels.style.gridTemplateColumns = `repeat(auto-fit, minmax(min(100%, ${Math.floor(wide) - 1}px), 1fr))`;
  for (const cohort of cohorts) {
    const here = gains.filter(g => g.cohort === cohort), panel = document.createElement("div");
    if (cohorts.length > 1) panel.append(Object.assign(document.createElement("h3"), { textContent: cohort }));
    const name = g => `${wordsOf(g.method)} over ${wordsOf(g.baseline)}\n${g.structure}: ${signed(g.points)} DSC points\npatients: ${g.patients_low === null ? "not known" : `${signed(g.patients_low)} to ${signed(g.patients_high)}`}\nruns and patients: ${g.runs_low === null ? "needs 3 runs" : `${signed(g.runs_low)} to ${signed(g.runs_high)}`}\n${g.n_runs} runs, ${g.n_patients} patients`;
    const paint = g => known[key(g)].paint;
    panel.append(Plot.plot({ width: wide, height: structures.length * (order.length * 13 + 12) + 46, marginLeft: left, marginRight: 12, marginTop: 6, marginBottom: 36,
      x: { label: "gain (DSC points)", domain: [Math.min(0, ...ends), Math.max(0, ...ends)], nice: true, grid: true, labelAnchor: "center", labelArrow: "none" },
      y: { domain: order, axis: null, padding: 0.35 }, fy: { domain: structures, label: null, padding: 0.12 }, symbol: { domain: order, range: order.map(k => known[k].symbol) },
      marks: [Plot.axisFy({ anchor: "left", label: null, textAnchor: "end", dx: -6, lineWidth: 18 }), Plot.ruleX([0], { stroke: "var(--soft)" }),
        Plot.link(here.filter(g => g.runs_low !== null), { x1: "runs_low", x2: "runs_high", y1: key, y2: key, fy: "structure", stroke: paint, strokeWidth: 1.2 }),
        Plot.link(here.filter(g => g.patients_low !== null), { x1: "patients_low", x2: "patients_high", y1: key, y2: key, fy: "structure", stroke: paint, strokeWidth: 4 }),
        Plot.dot(here, { x: "points", y: key, fy: "structure", symbol: key, fill: paint, stroke: "var(--paper)", strokeWidth: 1, r: 5 }),
        Plot.tip(here, Plot.pointer({ x: "points", y: key, fy: "structure", title: name, fill: "var(--paper)", stroke: "var(--line)" }))] }));
    panels.append(panel);
  }
  place.append(legend(contrasts.map(c => ({ ...known[key(c)], dash: [], words: `${wordsOf(c.method)} over ${wordsOf(c.baseline)}` }))), panels);
};

// Bars of the average DSC: cohorts are panels; the paper's bar, dashed, is beside ours where it has the cohort and method.
PLOTS.cohorts = (place, { bars }, width) => {
  const cohorts = [...new Set(bars.map(b => b.cohort))], methods = [...new Set(bars.map(b => b.method))], panels = document.createElement("div");
  const columns = Math.max(1, Math.min(cohorts.length, Math.floor((width + 26) / 286))), wide = Math.floor((width - 26 * (columns - 1)) / columns);
  panels.className = "panels";
  panels.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  for (const cohort of cohorts) {
    const here = bars.filter(b => b.cohort === cohort), panel = document.createElement("div");
    const shown = here.flatMap(b => [{ ...b, x: methods.indexOf(b.method) - (b.paper === null ? 0 : 0.21), value: b.ours, who: "ours" }, { ...b, x: methods.indexOf(b.method) + 0.21, value: b.paper, who: "paper" }]).filter(b => Number.isFinite(b.value));
    const outlines = who => shown.filter(b => b.who === who).flatMap(b => [-0.19, 0.19].map(side => ({ ...b, at: b.x + side })));
    const drawn = { x: "at", y1: 0, y2: "value", z: "method", fill: b => lookOf[b.method].paint };
    panel.append(Object.assign(document.createElement("h3"), { textContent: cohort }), Plot.plot({ width: Math.min(wide, 420), height: 220, marginLeft: 44, marginTop: 18, marginBottom: 8,
      x: { domain: [-0.6, methods.length - 0.4], axis: null }, y: { domain: [0, 100], label: "average DSC (%)", labelAnchor: "center", labelArrow: "none", grid: true, ticks: 5 },
      marks: [Plot.areaY(outlines("ours"), drawn), Plot.areaY(outlines("paper"), { ...drawn, fillOpacity: 0.15, stroke: drawn.fill, strokeDasharray: "3 2" }), Plot.ruleY([0], { stroke: "var(--soft)" }),
        Plot.text(shown, { x: "x", y: "value", text: b => b.value.toFixed(1), dy: -7, fontSize: 11, stroke: "var(--paper)", strokeWidth: 3, fill: "var(--ink)" })] }));
    panels.append(panel);
  }
  const paper = bars.some(b => b.paper !== null) ? [{ words: "dashed: the paper", paint: "var(--soft)", dash: [3, 2] }] : [];
  place.append(legend([...methods.map(m => ({ ...lookOf[m], dash: [], symbol: "square" })), ...paper]), panels);
};

// Patients: methods below each other, the runs of a method too; lines join a patient's means over runs.
PLOTS.patients = (place, { methods, dots, averages }, width) => {
  const seeds = [...new Set(dots.map(d => d.seed))].sort((a, b) => a - b), narrow = width < 560;
  const place_ = d => methods.indexOf(d.method) + 0.5 * (seeds.indexOf(d.seed) - (seeds.length - 1) / 2) / Math.max(1, seeds.length);
  const names = methods.map(wordsOf), left = narrow ? 10 : Math.min(longest(names, 60), 220);
  const groups = Map.groupBy ? Map.groupBy(dots, d => `${d.patient}|${d.method}`) : dots.reduce((m, d) => m.set(`${d.patient}|${d.method}`, [...m.get(`${d.patient}|${d.method}`) ?? [], d]), new Map());
  const means = [...groups.values()].map(g => ({ patient: g[0].patient, method: g[0].method, dice: g.reduce((s, d) => s + d.dice, 0) / g.length }));
  const bars = methods.map(method => ({ method, dice: averages[method], y: methods.indexOf(method) }));
  const row = 30 + 12 * seeds.length, paint = d => lookOf[d.method].paint;
  const figure = Plot.plot({ width, height: methods.length * row + 50, marginLeft: left, marginRight: 14, marginBottom: 38, marginTop: narrow ? 20 : 14,
    x: { label: `mean DSC of a patient (%), n = ${new Set(dots.map(d => d.patient)).size}`, labelAnchor: "center", labelArrow: "none", grid: true },
    y: { domain: [methods.length - 0.45, -0.6], axis: null }, symbol: { domain: methods, range: methods.map(m => lookOf[m].symbol) },
    marks: [narrow ? Plot.text(bars, { frameAnchor: "left", y: d => d.y - 0.44, text: d => wordsOf(d.method), textAnchor: "start", fontWeight: 600 })
                   : Plot.text(bars, { frameAnchor: "left", dx: -left + 4, y: "y", text: d => wordsOf(d.method), textAnchor: "start" }),
      Plot.line(means, { x: "dice", y: d => methods.indexOf(d.method), z: "patient", stroke: "var(--soft)", strokeOpacity: 0.35, strokeWidth: 0.8 }),
      Plot.dot(dots, { x: "dice", y: place_, fill: paint, fillOpacity: 0.75, symbol: "method", r: 3.2 }),
      Plot.link(bars, { x1: "dice", x2: "dice", y1: d => d.y - 0.34, y2: d => d.y + 0.34, stroke: paint, strokeWidth: 2.6 }),
      Plot.text(bars, { x: "dice", y: d => d.y + (narrow ? 0.44 : -0.42), text: d => d.dice.toFixed(1), fontWeight: 700, stroke: "var(--paper)", strokeWidth: 4, fill: "var(--ink)" }),
      Plot.tip(dots, Plot.pointer({ x: "dice", y: place_, fill: "var(--paper)", stroke: "var(--line)", title: d => `${d.case}\n${wordsOf(d.method)}, seed ${d.seed}\nDSC ${d.dice.toFixed(1)} %${d.hd === null ? "\na structure was missed" : `, HD ${d.hd} mm`}\nclick opens the case` }))] });
  figure.addEventListener("click", () => { if (figure.value) document.dispatchEvent(new CustomEvent("open-patient", { detail: figure.value })); });
  place.classList.add("click");
  const note = document.createElement("p");
  note.className = "question";
  note.textContent = seeds.length > 1 ? `Runs of a method from the top: ${seeds.map(seed => `seed ${seed}`).join(", ")}.` : `One run, seed ${seeds[0]}.`;
  place.append(figure, note);
};

// Training curves: small multiples that wrap, smoothed, the range of seeds as a band, one shared hover.
PLOTS.curves = (place, { panels }, width) => {
  const methods = [...new Set(panels.flatMap(p => p.lines.map(l => l.method)))], box = document.createElement("div"), read = document.createElement("p");
  box.className = "panels";
  read.className = "question";
  read.setAttribute("role", "status");
  read.textContent = "Point at a step to read all panels.";
  const columns = Math.max(1, Math.floor((width + 24) / 330)), wide = Math.floor((width - 26 * (columns - 1)) / columns);
  box.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  const smoothing = { value: 0.6 }, drawn = [];
  const smooth = values => { let last = values[0]; return values.map(v => last = smoothing.value * last + (1 - smoothing.value) * v); };
  function fill() {
    box.replaceChildren();
    drawn.length = 0;
    for (const panel of panels) {
      const bands = methods.flatMap(method => {
        const lines = panel.lines.filter(l => l.method === method).map(l => ({ ...l, values: smooth(l.values) }));
        if (!lines.length) return [];
        const longest = lines.reduce((a, b) => a.steps.length >= b.steps.length ? a : b).steps;
        return longest.map((step, i) => {
          const here = lines.map(l => l.values[Math.min(i, l.values.length - 1)]);
          return { method, step, low: Math.min(...here), high: Math.max(...here), mean: here.reduce((a, b) => a + b) / here.length };
        });
      });
      const best = panel.lines.filter(l => l.best !== null).map(l => ({ method: l.method, seed: l.seed, step: l.best, value: smooth(l.values)[l.steps.findIndex(s => Math.abs(s - l.best) < 0.6)] }));
      const figure = Plot.plot({ width: wide, height: 190, marginLeft: 48, marginBottom: 32, marginTop: 10, x: { label: "step", labelArrow: "none" }, y: { label: null, grid: true, ticks: 4, nice: true },
        marks: [...methods.flatMap(method => {
          const own = bands.filter(b => b.method === method), look = lookOf[method];
          return [Plot.areaY(own, { x: "step", y1: "low", y2: "high", fill: look.paint, fillOpacity: 0.16 }), Plot.lineY(own, { x: "step", y: "mean", stroke: look.paint, strokeWidth: 1.8, strokeDasharray: look.dash.join(" ") || null })];
        }), Plot.dot(best, { x: "step", y: "value", fill: d => lookOf[d.method].paint, stroke: "var(--paper)", r: 4, symbol: "star", title: d => `best epoch of ${wordsOf(d.method)}, seed ${d.seed}` }),
        ...(bands.length === methods.length ? [Plot.dot(bands, { x: "step", y: "mean", fill: d => lookOf[d.method].paint })] : [])] });
      const cell = document.createElement("div");
      cell.append(Object.assign(document.createElement("h3"), { textContent: panel.heading }), figure);
      box.append(cell);
      const rule = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [k, v] of [["y1", 10], ["y2", 158], ["stroke", "var(--soft)"], ["visibility", "hidden"]]) rule.setAttribute(k, v);
      figure.append(rule);
      drawn.push({ panel, figure, rule, bands });
      figure.addEventListener("pointermove", event => point(figure.scale("x").invert((event.clientX - figure.getBoundingClientRect().left) * wide / figure.getBoundingClientRect().width)));
    }
  }
  function point(step) {
    const said = drawn.map(({ panel, figure, rule, bands }) => {
      const x = figure.scale("x").apply(step);
      rule.setAttribute("x1", x);
      rule.setAttribute("x2", x);
      rule.setAttribute("visibility", "visible");
      const values = methods.flatMap(method => {
        const own = bands.filter(b => b.method === method);
        if (!own.length) return [];
        return [`${wordsOf(method)} ${own.reduce((a, b) => Math.abs(a.step - step) <= Math.abs(b.step - step) ? a : b).mean.toPrecision(3)}`];
      });
      return `${panel.heading}: ${values.join(", ")}`;
    });
    read.textContent = `Step ${Math.round(step)}. ${said.join("; ")}.`;
  }
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 0.95, step: 0.05, value: smoothing.value });
  slider.addEventListener("input", () => { smoothing.value = Number(slider.value); fill(); quiet(place); });
  const label = document.createElement("label"), controls = document.createElement("div");
  controls.className = "controls";
  label.append("Smoothing", slider);
  controls.append(label);
  fill();
  place.append(legend(methods.map(m => ({ ...lookOf[m], symbol: null }))), controls, box, read);
};

// The learning curve: dodged dots of runs, means with 95 % intervals over runs.
PLOTS.learning = (place, { points }, width) => {
  const methods = [...new Set(points.map(p => p.method))], counts = [...new Set(points.map(p => p.patients))].sort((a, b) => a - b);
  const x = p => Math.log(p.patients) + (methods.indexOf(p.method) - (methods.length - 1) / 2) * 0.05;
  const runs = points.flatMap(p => p.runs.map(run => ({ ...p, ...run })));
  const figure = Plot.plot({ width: Math.min(width, 760), height: 340, marginLeft: 46, marginBottom: 40, y: { label: "average DSC (%)", grid: true, labelArrow: "none", nice: true, inset: 6 }, symbol: { domain: methods, range: methods.map(m => lookOf[m].symbol) },
    x: { label: "labelled patients", labelAnchor: "center", labelArrow: "none", ticks: counts.map(Math.log), tickFormat: v => String(Math.round(Math.exp(v))) },
    marks: [...methods.map(method => Plot.line(points.filter(p => p.method === method), { x, y: "mean", stroke: lookOf[method].paint, strokeWidth: 2, strokeDasharray: lookOf[method].dash.join(" ") || null })),
      Plot.link(points.filter(p => p.low !== null), { x1: x, x2: x, y1: "low", y2: "high", stroke: p => lookOf[p.method].paint, strokeWidth: 1.4 }),
      Plot.dot(runs, { x, y: "value", fill: "var(--paper)", stroke: p => lookOf[p.method].paint, r: 2.5 }),
      // Seeds are printed where they can be read; the pointer tells them otherwise.
      Plot.text(new Set(runs.map(r => r.seed)).size <= 5 ? runs : [], { x, y: "value", text: "seed", dx: 7, fontSize: 9, fill: "var(--soft)" }),
      Plot.dot(points, { x, y: "mean", fill: p => lookOf[p.method].paint, symbol: "method", r: 5 }),
      Plot.tip(runs, Plot.pointer({ x, y: "value", fill: "var(--paper)", stroke: "var(--line)", title: p => `${wordsOf(p.method)}, seed ${p.seed}\n${p.patients} labelled patients: ${p.value.toFixed(2)} %` }))] });
  place.append(legend(methods.map(m => lookOf[m])), figure);
};

// Plot names its marks for itself; a reader is told by the words of the whole figure.
const quiet = place => place.querySelectorAll("svg [aria-label]").forEach(mark => mark.removeAttribute("aria-label"));

function drawPlot(place) {
  const width = Math.floor(place.getBoundingClientRect().width);
  if (!width || place.dataset.width === String(width)) return;
  place.dataset.width = width;
  place.replaceChildren();
  PLOTS[place.dataset.plot](place, JSON.parse(place.parentElement.querySelector("script").textContent), width);
  if (place.querySelector("input")) place.setAttribute("role", "group");
  quiet(place);
}
document.querySelectorAll("[data-plot]").forEach(place => {
  drawPlot(place);
  new ResizeObserver(() => drawPlot(place)).observe(place);
});
