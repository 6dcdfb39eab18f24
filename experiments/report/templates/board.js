"use strict";
const at = id => document.getElementById(id), EVERY_MS = 4000, chosen = new Set();
const make = (tag, text = "", attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), { textContent: text });
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
let board = { studies: [], runs: [], looks: [] }, written = "";

// Filters are in the address, so that a view can be sent to a colleague or kept.
const asked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
function ask(changes) {
  const wanted = new URLSearchParams(Object.entries({ ...asked(), ...changes }).filter(([, value]) => value));
  history.replaceState(null, "", `#${wanted}`);
  show();
}
function filtered() {
  const { q = "", study, state } = asked(), words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const order = ["failed", "running", "waiting", "done"];
  return board.runs.filter(run => (!study || run.study === study) && (!state || run.state === state) && words.every(word => `${run.name} ${JSON.stringify(run.settings)}`.toLowerCase().includes(word)))
    .sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
}

function showStudies() {
  at("studies").replaceChildren(...board.studies.map(study => {
    const head = make("h2", "", {}, study.report ? make("a", study.title, { href: study.report }) : study.title);
    const verdicts = Object.entries(study.verdicts).map(([cohort, verdict]) => make("p", "", { title: verdict.reason }, make("strong", verdict.state), ` on ${cohort}`));
    const states = Object.entries(study.states).filter(([, count]) => count).map(([state, count]) => `${count} ${state}`).join(", ");
    const best = study.best ? [make("p", `best validation DSC ${study.best.dice.toFixed(1)} %: ${study.best.run}`)] : [];
    return make("li", "", {}, head, ...(verdicts.length ? verdicts : [make("p", "no verdict yet")]), make("p", states || "its runs are not listed"), ...best);
  }));
}

function differences(run, before) {
  if (!before) return "";
  const names = Object.keys({ ...before.settings, ...run.settings });
  return names.filter(name => String(before.settings[name]) !== String(run.settings[name])).map(name => `${name}=${run.settings[name] ?? "none"}`).join(", ");
}

function show() {
  const runs = filtered(), { q = "", study = "", state = "" } = asked();
  at("q").value = q;
  at("state").value = state;
  at("study").replaceChildren(new Option("all", ""), ...board.studies.map(one => new Option(one.title, one.name)));
  at("study").value = study;
  at("count").textContent = `${runs.length} of ${board.runs.length} runs`;
  const texts = JSON.stringify([runs, [...chosen]]);
  if (texts === written) return;
  written = texts;
  at("rows").replaceChildren(...runs.map((run, i) => {
    const box = make("input", "", { type: "checkbox", "aria-label": `select ${run.name}` }), name = make("button", run.name, { type: "button" });
    box.checked = chosen.has(run.name);
    box.addEventListener("change", () => { chosen[box.checked ? "add" : "delete"](run.name); at("compare").disabled = chosen.size < 2; });
    name.addEventListener("click", () => openRun(run.name));
    const state = make("td", "", { "data-label": "state" }, make("span", run.state, { class: `state ${run.state}` }));
    if (run.state === "running") state.append(" ", make("progress", "", { max: 1, value: run.share, "aria-label": "share that is done" }));
    return make("tr", "", { "data-run": run.name }, make("td", "", {}, box), make("td", "", { "data-label": "run" }, name), state,
      make("td", run.doing, { "data-label": "doing" }), make("td", run.best === null ? "" : run.best.toFixed(1), { "data-label": "best validation DSC (%)" }), make("td", differences(run, runs[i - 1]), { "data-label": "differs from the run before" }));
  }));
  at("compare").disabled = chosen.size < 2;
}

function setLooks() {
  board.looks.forEach((look, i) => {
    document.documentElement.style.setProperty(`--m${i}`, matchMedia("(prefers-color-scheme: dark)").matches ? look.dark : look.light);
    lookOf[look.method] = { ...look, paint: `var(--m${i})` };
  });
}
const fetched = name => fetch(`run.json?name=${encodeURIComponent(name)}`).then(answer => answer.json());
function plotted(panels, place) {
  place.append(make("script", JSON.stringify({ panels }), { type: "application/json" }), make("div", "", { "data-plot": "curves", class: "plot" }));
  drawPlot(place.querySelector("[data-plot]"));
}

async function openRun(name) {
  const run = await fetched(name), body = at("behind-body");
  at("behind-title").textContent = name;
  body.replaceChildren();
  if (!at("behind").open) at("behind").showModal();
  if (run.error) body.append(make("pre", run.error));
  for (const [kind, panels] of Object.entries(run.curves)) {
    const place = make("figure");
    body.append(make("h3", kind), place);
    plotted(panels, place);
  }
  for (const [kind, lines] of Object.entries(run.logs)) if (lines.length) body.append(make("h3", `End of the log of ${kind}`), make("pre", lines.join("\n")));
  const settings = Object.entries(run.settings);
  if (settings.length) body.append(make("h3", "Settings in which runs of the study differ"), make("pre", settings.map(([key, value]) => `${key}=${value}`).join("\n")));
}

// Compared runs: their curves in one set of panels, and their settings beside their scores as parallel coordinates.
async function compare() {
  const runs = await Promise.all([...chosen].map(fetched)), place = at("compared");
  place.replaceChildren(make("h2", `${runs.length} runs compared`));
  place.hidden = false;
  runs.forEach((run, i) => { lookOf[run.name] = { ...lookOf[run.method], method: run.name, words: run.name, paint: lookOf[run.method]?.paint, dash: [[], [6, 2], [2, 2], [8, 2, 2, 2], [4, 1, 1, 1, 1, 1]][i % 5] }; });
  for (const kind of ["pretrain", "finetune"]) {
    const panels = new Map();
    for (const run of runs) for (const panel of run.curves[kind] ?? []) {
      const own = panels.get(panel.key) ?? { ...panel, lines: [] };
      own.lines.push(...panel.lines.map(line => ({ ...line, method: run.name })));
      panels.set(panel.key, own);
    }
    if (!panels.size) continue;
    const figure = make("figure");
    place.append(make("h3", kind), figure);
    plotted([...panels.values()], figure);
  }
  const scores = Object.fromEntries(board.runs.map(run => [run.name, run.best])), names = [...new Set(runs.flatMap(run => Object.keys(run.settings)))];
  const axes = ["method", "seed", ...names.filter(name => new Set(runs.map(run => String(run.settings[name]))).size > 1 && name !== "pretrain.method"), "best DSC"];
  const value = (run, axis) => axis === "best DSC" ? scores[run.name] : run[axis] ?? run.settings[axis] ?? "none";
  const points = axes.flatMap(axis => {
    const values = [...new Set(runs.map(run => value(run, axis)))].sort((a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
    const numbers = values.every(v => typeof v === "number"), low = values[0], high = values.at(-1);
    return runs.map(run => ({ run: run.name, axis, text: String(numbers ? Number(value(run, axis)?.toPrecision?.(4)) : value(run, axis)), y: values.length === 1 ? 0.5 : numbers ? (value(run, axis) - low) / (high - low) : values.indexOf(value(run, axis)) / (values.length - 1) }));
  });
  const width = Math.floor(place.getBoundingClientRect().width);
  const drawn = Plot.plot({ width, height: 260, marginLeft: 60, marginRight: 90, marginTop: 30, marginBottom: 14, x: { type: "point", domain: axes, axis: "top", label: null }, y: { axis: null, domain: [-0.05, 1.05] },
    marks: [Plot.ruleX(axes, { stroke: "var(--line)" }), Plot.line(points, { x: "axis", y: "y", z: "run", stroke: d => lookOf[d.run].paint, strokeWidth: 1.8, strokeOpacity: 0.8 }), Plot.text(points, { x: "axis", y: "y", text: "text", dx: 6, textAnchor: "start", stroke: "var(--paper)", strokeWidth: 3, fill: "var(--ink)" })] });
  drawn.setAttribute("aria-label", "Settings and scores of the compared runs as parallel coordinates");
  place.append(make("h3", "Settings and scores"), drawn);
  place.scrollIntoView();
}

async function look() {
  try {
    board = await (await fetch("board.json")).json();
    at("live").textContent = `Live: read at ${new Date().toLocaleTimeString()}.`;
    at("tensorboard").textContent = board.tensorboard;
    setLooks();
    showStudies();
    show();
  } catch { at("live").textContent = "The program that serves this page has ended; what is shown is its last state."; }
}
at("q").addEventListener("input", event => ask({ q: event.target.value }));
at("study").addEventListener("change", event => ask({ study: event.target.value }));
at("state").addEventListener("change", event => ask({ state: event.target.value }));
at("compare").addEventListener("click", compare);
at("clear").addEventListener("click", () => { chosen.clear(); at("compared").hidden = true; show(); });
at("behind").querySelector(".close").addEventListener("click", () => at("behind").close());
window.addEventListener("hashchange", show);
look();
setInterval(look, EVERY_MS);
