"use strict";
// The case viewer: one decoded CT slice in the canvas of every panel, contours as SVG paths over it.
(() => {
  const kept = JSON.parse(document.getElementById("case-data").textContent), at = id => document.getElementById(id);
  const looks = JSON.parse(document.getElementById("page-data").textContent).looks;
  const words = method => looks.find(look => look.method === method)?.words ?? method;
  const methods = [...new Set(kept.runs.map(run => run.method))], seeds = [...new Set(kept.runs.map(run => run.seed))];
  const state = { case: 0, slice: 0, seed: String(seeds[0]), window: [40, 400], errors: false, hidden: new Set() };
  const SVG = "http://www.w3.org/2000/svg";
  let cases = null, decoded = new Map();

  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const draw = (tag, attributes, parent) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  };

  async function unpack() {
    const bytes = Uint8Array.from(atob(kept.packed), c => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  // The stored grey of a slice, decoded once; windows only change how it is shown.
  async function grey(one, z) {
    const key = `${one.case}/${z}`;
    if (!decoded.has(key)) {
      const picture = new Image();
      picture.src = `data:image/webp;base64,${one.images[z]}`;
      await picture.decode();
      const canvas = make("canvas", { width: one.size[1], height: one.size[0] }), context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      decoded.set(key, context.getImageData(0, 0, one.size[1], one.size[0]));
    }
    return decoded.get(key);
  }
  function huOf(level) {
    const i = Math.max(1, kept.grey.findIndex(knot => knot >= level)), [a, b] = [kept.grey[i - 1], kept.grey[i]];
    return kept.hu[i - 1] + (level - a) / (b - a) * (kept.hu[i] - kept.hu[i - 1]);
  }
  function windowed(source) {
    const [centre, width] = state.window, shades = Uint8ClampedArray.from({ length: 256 }, (_, level) => 255 * (huOf(level) - centre + width / 2) / width);
    const shown = new ImageData(source.width, source.height);
    for (let i = 0; i < source.data.length; i += 4) {
      shown.data[i] = shown.data[i + 1] = shown.data[i + 2] = shades[source.data[i]];
      shown.data[i + 3] = 255;
    }
    return shown;
  }

  function contours(svg, one, method, panel) {
    const reference = one.reference[state.slice], runs = kept.runs.map((run, i) => ({ ...run, paths: one.runs[i][state.slice] }));
    const here = runs.filter(run => run.method === method && (state.seed === "all" || String(run.seed) === state.seed));
    kept.structures.forEach((name, c) => {
      if (state.hidden.has(c)) return;
      for (const run of here) {
        const found = run.paths[c] ?? "", drawn = reference[c] ?? "";
        if (state.errors && state.seed !== "all" && (found || drawn)) {
          for (const [side, path, color] of [["false", found, "#ffd23f"], ["missed", drawn, "#3fa7ff"]]) {
            if (!path) continue;
            const id = `clip-${panel}-${c}-${side}`, clip = draw("clipPath", { id }, svg);
            draw("path", { d: path, "clip-rule": "evenodd" }, clip);
            draw("path", { d: found + drawn, "fill-rule": "evenodd", fill: color, "fill-opacity": .6, "clip-path": `url(#${id})` }, svg);
          }
        }
        if (found) draw("path", { d: found, fill: "none", stroke: kept.colors[c], "stroke-width": state.seed === "all" ? 1.2 : 1.8, "stroke-opacity": state.seed === "all" ? .75 : 1, "vector-effect": "non-scaling-stroke" }, svg);
      }
      if (reference[c]) draw("path", { d: reference[c], fill: "none", stroke: "#fff", "stroke-width": 1.3, "stroke-dasharray": "4 3", "vector-effect": "non-scaling-stroke" }, svg);
    });
  }

  function scores(one, method) {
    const list = make("ul", { class: "case-scores" });
    const indices = kept.runs.flatMap((run, i) => run.method === method && (state.seed === "all" || String(run.seed) === state.seed) ? [i] : []);
    kept.structures.forEach((name, c) => {
      const values = indices.map(i => one.dice[i][c]).filter(value => value !== undefined);
      if (!values.length || state.hidden.has(c)) return;
      const text = values.map(value => value.toFixed(1)).join(", ");
      list.append(make("li", Math.min(...values) === 0 ? { class: "missed" } : {}, make("span", { class: "swatch", style: `background:${kept.colors[c]}` }), `${name} ${text}${Math.min(...values) === 0 ? " missed" : ""}`));
    });
    return list;
  }

  async function show() {
    cases ??= await unpack();
    const one = cases[state.case], [height, width] = one.size, [, mmY, mmX] = one.mm;
    const source = windowed(await grey(one, state.slice)), panels = at("case-panels"), millimetres = width * mmX;
    const bar = [100, 50, 20, 10, 5].find(length => length <= millimetres / 3) ?? 2;
    at("case-z").textContent = `${one.z[state.slice]} (${state.slice + 1} of ${one.z.length})`;
    panels.replaceChildren();
    for (const [panel, method] of methods.entries()) {
      const canvas = make("canvas", { width, height }), frame = make("div", { class: "case-frame", style: `aspect-ratio:${millimetres} / ${height * mmY}` });
      canvas.getContext("2d").putImageData(source, 0, 0);
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", `0 0 ${2 * width} ${2 * height}`);
      svg.setAttribute("preserveAspectRatio", "none");
      contours(svg, one, method, panel);
      const scale = make("span", { class: "case-scale", style: `width:${100 * bar / millimetres}%` }, `${bar} mm`);
      frame.append(canvas, svg, make("span", { class: "side r" }, "R"), make("span", { class: "side l" }, "L"), scale);
      const figure = make("figure", { "aria-label": `${words(method)}, case ${one.case}, slice ${one.z[state.slice]}` }, make("figcaption", {}, words(method)), frame, scores(one, method));
      panels.append(figure);
    }
    at("case-viewer").dataset.shown = `${one.case}/${one.z[state.slice]}`;
  }

  function openCase(i) {
    state.case = i;
    at("case-choice").value = i;
    (cases ? Promise.resolve(cases) : unpack()).then(found => {
      cases = found;
      state.slice = cases[i].first;
      Object.assign(at("case-slice"), { max: cases[i].z.length - 1, value: state.slice });
      return show();
    });
  }
  // Opens a case by its name, or that of its patient; false where the page has no pictures of it.
  window.openCase = name => {
    const i = kept.cases.findIndex(one => one.case === name);
    if (i < 0) return false;
    openCase(i);
    at("cases").scrollIntoView();
    return true;
  };

  at("case-choice").append(...kept.cases.map((one, i) => new Option(`${one.case}: ${one.why} (${one.gain >= 0 ? "+" : ""}${one.gain.toFixed(1)} points)`, i)));
  at("case-run").append(...seeds.map(seed => new Option(`seed ${seed}`, seed)), new Option("all runs", "all"));
  at("case-choice").addEventListener("change", event => openCase(Number(event.target.value)));
  at("case-slice").addEventListener("input", event => { state.slice = Number(event.target.value); show(); });
  at("case-run").addEventListener("change", event => { state.seed = event.target.value; show(); });
  at("case-errors").addEventListener("click", event => {
    state.errors = !state.errors;
    event.target.setAttribute("aria-pressed", state.errors);
    at("case-errors-key").hidden = !state.errors;
    show();
  });
  document.querySelectorAll("[data-window]").forEach(button => button.addEventListener("click", () => {
    state.window = button.dataset.window.split(",").map(Number);
    document.querySelectorAll("[data-window]").forEach(b => b.setAttribute("aria-pressed", b === button));
    show();
  }));
  at("case-structures").append(...kept.structures.map((name, c) => {
    const box = make("input", { type: "checkbox", checked: "" });
    box.addEventListener("change", () => { state.hidden[box.checked ? "delete" : "add"](c); show(); });
    return make("label", { class: "key" }, box, make("span", { class: "swatch", style: `background:${kept.colors[c]}` }), name);
  }));
  openCase(0);
})();
