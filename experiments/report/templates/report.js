"use strict";
const data = JSON.parse(document.getElementById("page-data").textContent);
const element = (tag, text = "", attributes = {}) => {
  const made = Object.assign(document.createElement(tag), { textContent: text });
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};

async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); }
  catch {
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
}
document.querySelectorAll("[data-copy]").forEach(button => button.addEventListener("click", () =>
  copy(document.getElementById(button.dataset.copy).textContent, button)));

// Numbers by size, words by the alphabet, nothing last.
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
}
function sortRows(table, i, order, value) {
  [...table.tHead.rows[0].cells].forEach((head, k) => head.setAttribute("aria-sort", k === i ? order : "none"));
  const sign = order === "ascending" ? 1 : -1, of = row => value(row.cells[i]);
  const by = (a, b) => of(a) === "" || of(b) === "" ? compare(of(a), of(b)) : compare(of(a), of(b)) * sign;
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(by));
}
function sortable(table, value) {
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    const button = element("button", head.textContent, { type: "button" });
    button.addEventListener("click", () => sortRows(table, i, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending", value));
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
  });
}

// Tables of results: one metric is shown, the others wait behind a switch.
const scoreOf = cell => cell.dataset.value === "nan" ? "" : cell.dataset.value ?? cell.textContent.trim();
document.querySelectorAll(".switched").forEach(group => {
  const tables = [...group.querySelectorAll(".one")], sorter = group.querySelector(".sorter");
  const shown = () => tables.find(one => !one.hidden);
  const show = id => {
    tables.forEach(one => { one.hidden = one.dataset.id !== id; });
    group.querySelectorAll("[data-show]").forEach(b => b.setAttribute("aria-pressed", b.dataset.show === id));
  };
  tables.forEach(one => sortable(one.querySelector("table"), scoreOf));
  const heads = [...tables[0].querySelectorAll("thead th")].map(head => head.textContent);
  sorter.append(new Option("as run", ""), ...heads.map((head, i) => new Option(head, i)));
  sorter.addEventListener("change", () => {
    if (sorter.value === "") return;
    const table = shown().querySelector("table"), ascending = sorter.value === "0" || table.dataset.metric.startsWith("hausdorff");
    sortRows(table, Number(sorter.value), ascending ? "ascending" : "descending", scoreOf);
  });
  group.querySelectorAll("[data-show]").forEach(b => b.addEventListener("click", () => show(b.dataset.show)));
  group.querySelectorAll("[data-copy-table]").forEach(b => b.addEventListener("click", () =>
    copy(JSON.parse(shown().querySelector(`[data-text=${b.dataset.copyTable}]`).textContent), b)));
  group.querySelector(".controls").hidden = false;
  show(tables[0].dataset.id);
});

// The table of runs, with words to filter by and a choice for each setting that runs share.
const table = document.getElementById("run-table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
const names = heads.map(head => head.textContent), words = document.getElementById("filter");
const controls = document.getElementById("controls"), count = document.getElementById("count"), chosen = new Map();
names.forEach((name, i) => {
  const values = [...new Set([...body.rows].map(row => row.cells[i].textContent))].sort(compare);
  const measured = name.endsWith(")"), reused = values.length * 2 <= body.rows.length || body.rows.length < 4;
  if (i === 0 || measured || !reused || values.length < 2 || values.length > 12) return;
  const label = element("label", name), select = element("select", "", { "data-column": name });
  select.append(new Option("all", "all:"), ...values.map(value => new Option(value || "(empty)", "is:" + value)));
  select.addEventListener("change", apply);
  label.append(select);
  controls.insertBefore(label, count);
  chosen.set(i, select);
});
function apply() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of body.rows) {
    const text = [...row.cells].map(cell => cell.textContent).join(" ").toLowerCase();
    const picked = [...chosen].every(([i, s]) => s.value === "all:" || s.value === "is:" + row.cells[i].textContent);
    row.hidden = !(picked && wanted.every(word => text.includes(word)));
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${body.rows.length} runs`;
}
sortable(table, cell => cell.textContent);
words.addEventListener("input", apply);
controls.hidden = body.rows.length === 0;
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));

// report.html#filter=words&sort=column&order=descending opens the page with its runs like that, and so does a link in it.
function obey() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("filter")) words.value = asked.get("filter");
  if (names.includes(asked.get("sort"))) sortRows(table, names.indexOf(asked.get("sort")), asked.get("order") === "descending" ? "descending" : "ascending", cell => cell.textContent);
  apply();
}
obey();
window.addEventListener("hashchange", () => {
  obey();
  if (location.hash.startsWith("#filter=")) document.getElementById("runs").scrollIntoView();
});
const dialog = document.getElementById("behind");
dialog.querySelector(".close").addEventListener("click", () => dialog.close());

// Every number opens the rows behind it, a run of these its folder, its settings and the end of its log.
const PRINTED = { dice: ["DSC (%)", "dice"], hausdorff: ["HD (mm)", "hausdorff_mm"], hausdorff95: ["HD95 (mm)", "hausdorff95_mm"], surface_dice: ["SDSC (%)", "surface_dice"] };
const spoken = method => data.looks.find(look => look.method === method)?.words ?? method;
const rowsOf = wanted => {
  const rows = data.rows, found = [];
  for (let i = 0; i < rows.seed.length; i++) {
    const row = { method: rows.names.method[rows.method[i]], cohort: rows.names.cohort[rows.cohort[i]], case: rows.names.case[rows.case[i]], structure: rows.names.structure[rows.structure[i]], seed: rows.seed[i], labelled: rows.labelled?.[i], i };
    if (Object.entries(wanted).every(([name, value]) => value === undefined || row[name] === value)) found.push(row);
  }
  return found;
};
const open_ = (title, ...parts) => {
  document.getElementById("behind-title").textContent = title;
  document.getElementById("behind-body").replaceChildren(...parts);
  if (!dialog.open) dialog.showModal();
};
function grid(head, lines) {
  const made = element("table"), top = element("tr");
  top.append(...head.map(text => element("th", text, { scope: "col" })));
  made.append(element("thead"), element("tbody"));
  made.tHead.append(top);
  for (const line of lines) {
    const row = element("tr");
    row.append(...line.map(value => { const cell = element("td"); cell.append(value ?? ""); return cell; }));
    made.tBodies[0].append(row);
  }
  return made;
}
function openRun(run) {
  const parts = [];
  if (run.error) parts.push(element("pre", run.error));
  const stages = element("p", "Folders: ");
  Object.values(run.stages).forEach(name => stages.append(element("a", name, { href: `../stages/${name}/` }), " "));
  parts.push(stages, element("h3", `Settings that differ from ${data.runs[0].run}`));
  const lines = Object.entries(run.differences).map(([name, [there, here]]) => [name, there, here]);
  parts.push(lines.length ? grid(["setting", "there", "here"], lines) : element("p", "None."));
  for (const [kind, log] of Object.entries(run.log)) if (log.length) parts.push(element("h3", `End of the log of ${kind}`), element("pre", log.join("\n")));
  open_(run.run, ...parts);
}
const runButton = run => {
  const button = element("button", run.run, { type: "button" });
  button.addEventListener("click", () => openRun(run));
  return button;
};
function openNumber(method, structure, metric, cohort, labelled) {
  const [label, column] = PRINTED[metric], average = structure === "Average";
  const rows = rowsOf({ method, cohort, labelled, structure: average ? undefined : structure });
  const seeds = [...new Set(rows.map(row => row.seed))].sort((a, b) => a - b), cases = [...new Set(rows.map(row => row.case))];
  const value = (name, seed) => {
    const own = rows.filter(row => row.case === name && row.seed === seed).map(row => data.rows[column][row.i]);
    return own.includes(null) ? "missed" : own.length ? (own.reduce((a, b) => a + b) / own.length).toFixed(2) : "";
  };
  const runs = seeds.map(seed => (data.runs ?? []).find(run => run.method === method && run.seed === seed && run.cohort === cohort && (labelled === undefined || run.labelled === labelled)));
  const buttons = element("p", "Runs: ");
  runs.filter(Boolean).forEach(run => buttons.append(runButton(run), " "));
  open_(`${spoken(method)}, ${structure}: ${label} of each case and run`, buttons,
    ...(average ? [element("p", "Of each case the mean over its structures. The average of the table is the mean over structures of means over patients.")] : []),
    grid(["case", ...seeds.map(seed => `seed ${seed}`)], cases.map(name => [name, ...seeds.map(seed => value(name, seed))])));
}
if (data.rows) {
  document.querySelectorAll("button.number").forEach(button => button.addEventListener("click", () =>
    openNumber(button.dataset.method, button.dataset.structure, button.closest("table").dataset.metric, button.closest(".switched").dataset.cohort, data.fewest)));
  document.addEventListener("open-patient", ({ detail }) => {
    if (window.openCase?.(detail.case)) return;
    const rows = rowsOf({ case: detail.case, labelled: data.fewest }), structures = [...new Set(rows.map(row => row.structure))];
    const runs = [...new Set(rows.map(row => `${row.method}|${row.seed}`))];
    open_(`${detail.case}: DSC (%)`, element("p", "The page has no pictures of this case; the case viewer says which it has."),
      grid(["method", "seed", ...structures], runs.map(key => {
        const [method, seed] = key.split("|");
        return [spoken(method), seed, ...structures.map(s => { const row = rows.find(r => r.method === method && String(r.seed) === seed && r.structure === s); return row ? data.rows.dice[row.i].toFixed(1) : ""; })];
      })));
  });
}
if (data.runs) for (const row of body.rows) {
  const run = data.runs.find(one => one.run === row.cells[0].textContent);
  if (run) row.cells[0].replaceChildren(runButton(run));
}
