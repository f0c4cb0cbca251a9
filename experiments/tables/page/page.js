"use strict";
// The page is complete without this script; it adds sorting, filtering, copying and the plots.
const page = JSON.parse(document.getElementById("page-data").textContent);
const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "text", "g", "title", "rect"].includes(tag) || attributes.svg;
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (name !== "svg") made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/* Theme: the system's, or the reader's choice, kept for the next visit where that is possible. */
function theme() {
  const button = document.getElementById("page-theme");
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* no storage for this file */ }
  if (kept) root.dataset.theme = kept;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const show = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* as above */ }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

/* Sorting: a row is a tbody. Numbers sort by their first number, words by the alphabet. */
const number = text => {
  const found = text.replace(/,/g, "").match(/^[▲▼(<\s]*([+-]?\d+(\.\d+)?)/);
  return found ? Number(found[1]) : null;
};

function sortable(table) {
  for (const header of all(":scope > thead th", table)) {
    const button = make("button", { class: "sort", type: "button" }, ...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, header));
  }
}

function sort(table, header) {
  const headers = all(":scope > thead th", table);
  const place = headers.indexOf(header);
  const rows = [...table.tBodies].map((body, order) => {
    const text = body.rows[0].cells[place].textContent.trim();
    body.dataset.order ??= order;
    return { body, text, value: number(text) };
  });
  const filled = rows.filter(row => row.text);
  const numeric = filled.every(row => row.value !== null);
  // Numbers are first read from the largest down, words from A; the third click undoes it.
  const steps = numeric && place ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
  const next = steps[(steps.indexOf(header.getAttribute("aria-sort")) + 1) % 3];
  headers.forEach(other => other.setAttribute("aria-sort", other === header ? next : "none"));
  const sign = next === "descending" ? -1 : 1;
  const before = (a, b) => a.body.dataset.order - b.body.dataset.order;
  rows.sort((a, b) => {
    if (next === "none") return before(a, b);
    if (!a.text || !b.text) return !a.text - !b.text || before(a, b);
    const order = numeric ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
    return sign * order || before(a, b);
  });
  table.append(...rows.map(row => row.body));
}

/* Filter: every word has to be in the row, or in the heading of its table. */
function filter() {
  const words = document.getElementById("page-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const run = document.getElementById("page-with-runs").checked;
  let shown = 0, rows = 0;
  for (const section of all("section")) {
    const heading = section.dataset.words.toLowerCase();
    let any = false;
    for (const body of all(".results > tbody", section)) {
      const text = heading + " " + body.dataset.words.toLowerCase();
      body.hidden = !words.every(word => text.includes(word)) || (run && body.dataset.runs === "0");
      any ||= !body.hidden;
      shown += !body.hidden;
      rows += 1;
    }
    section.hidden = !any;
  }
  for (const paper of all(".papers")) paper.hidden = all("section", paper).every(section => section.hidden);
  const narrowed = words.length || run;
  document.getElementById("page-shown").textContent = narrowed ? `${shown} of ${rows} rows` : "";
}

/* Plots. A scale maps numbers to places and knows its ticks. */
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function scale(values, from, to, logarithmic = false) {
  let low = Math.min(...values), high = Math.max(...values);
  const ticks = [];
  if (logarithmic && low > 0 && high / low > 4) {
    low /= 1.15; high *= 1.15;
    for (let ten = 10 ** Math.floor(Math.log10(low)); ten <= high; ten *= 10)
      for (const step of high / low > 40 ? [1, 3] : [1, 2, 5]) if (step * ten >= low && step * ten <= high) ticks.push(step * ten);
    const at = value => from + (to - from) * Math.log(value / low) / Math.log(high / low);
    return { at, ticks, say: value => short.format(value) };
  }
  const room = (high - low) * .05 || Math.abs(high) * .01 || 1;
  low -= room; high += room;
  const rough = (high - low) / 4, ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find(each => each * ten >= rough) * ten;
  for (let tick = Math.ceil(low / step); tick * step <= high; tick++) ticks.push(tick * step);
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9) + (step / ten === 2.5 ? 1 : 0)));
  const say = value => Math.abs(value) >= 1e4 ? short.format(value) : value.toFixed(digits);
  return { at: value => from + (to - from) * (value - low) / (high - low), ticks, say, from: low, to: high };
}

const WIDTH = 340, HEIGHT = 215, LEFT = 40, RIGHT = 332, TOP = 22, BOTTOM = 180;

function axes(label, x, y, titleX, titleY) {
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  svg.append(make("text", { x: 0, y: 10, class: "name" }, titleY));
  svg.append(make("text", { x: RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, titleX));
  for (const tick of y.ticks) {
    svg.append(make("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y.at(tick), y2: y.at(tick) }));
    svg.append(make("text", { x: LEFT - 5, y: y.at(tick) + 3.5, "text-anchor": "end" }, y.say(tick)));
  }
  for (const tick of x.ticks) {
    svg.append(make("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: BOTTOM, y2: BOTTOM + 4 }));
    svg.append(make("text", { x: x.at(tick), y: BOTTOM + 15, "text-anchor": "middle" }, x.say(tick)));
  }
  return svg;
}

const line = (x, y, points) => points.map(([a, b], i) => `${i ? "L" : "M"}${x.at(a).toFixed(1)} ${y.at(b).toFixed(1)}`).join("");

function curves(runs, quantity, title, unit) {
  const drawn = runs.map(([place, label, counted]) => {
    const values = page.curves[place][quantity], epochs = page.epochs[page.curves[place].epochs];
    return { label, counted, points: epochs.map((epoch, i) => [epoch, values[i]]).filter(([, value]) => value !== null) };
  }).filter(run => run.points.length);
  if (!drawn.length) return null;
  const counted = drawn.filter(run => run.counted);
  const at = epoch => counted.map(run => run.points.find(point => point[0] === epoch)?.[1]);
  const mean = counted.length < 2 ? [] : counted[0].points.map(([epoch]) => [epoch, at(epoch)])
    .filter(([, values]) => values.every(value => value !== undefined))
    .map(([epoch, values]) => [epoch, values.reduce((sum, value) => sum + value) / values.length]);
  const points = drawn.flatMap(run => run.points);
  const x = scale(points.map(point => point[0]), LEFT, RIGHT), y = scale(points.map(point => point[1]), BOTTOM, TOP);
  x.ticks = x.ticks.filter(tick => Number.isInteger(tick) && tick > 0);
  const ends = (mean.length ? mean : drawn[0].points).at(-1);
  const say = value => value.toPrecision(4) + unit;
  const label = `${title} against epochs of ${drawn.length} runs; ends at ${say(ends[1])} after epoch ${ends[0]}`;
  const svg = axes(label, x, y, "epoch", title);
  for (const run of drawn) {
    const kind = { class: run.counted ? (counted.length < 2 ? "mean" : "run") : "run left-out", d: line(x, y, run.points) };
    svg.append(make("path", kind, make("title", {}, run.label + (run.counted ? "" : ", does not count"))));
    if (run.points.length === 1) svg.append(make("circle", { class: "reproduced", r: 2.5, cx: x.at(run.points[0][0]), cy: y.at(run.points[0][1]) }));
  }
  if (mean.length) svg.append(make("path", { class: "mean", d: line(x, y, mean) }, make("title", {}, "mean")));
  const note = make("figcaption", {}, mean.length ? "bold: mean over seeds" : "");
  follow(svg, note, x, [...(mean.length ? [{ label: "mean", points: mean }] : []), ...drawn], say);
  return make("figure", {}, svg, note);
}

/* What the curves are at the epoch under the pointer. */
function follow(svg, note, x, drawn, say) {
  const usual = note.textContent, cursor = make("line", { class: "cursor", y1: TOP, y2: BOTTOM, visibility: "hidden" });
  const epochs = [...new Set(drawn.flatMap(run => run.points.map(point => point[0])))];
  svg.append(cursor);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) * WIDTH / box.width;
    const epoch = epochs.reduce((best, each) => Math.abs(x.at(each) - at) < Math.abs(x.at(best) - at) ? each : best);
    const values = drawn.map(run => [run.label, run.points.find(point => point[0] === epoch)]).filter(([, point]) => point);
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x.at(epoch));
    cursor.setAttribute("visibility", "visible");
    note.textContent = `epoch ${epoch}: ` + values.slice(0, 6).map(([name, point]) => `${name} ${say(point[1])}`).join(", ");
  });
  svg.addEventListener("pointerleave", () => { note.textContent = usual; cursor.setAttribute("visibility", "hidden"); });
}

function learningCurves(row) {
  const runs = page.rows[row]?.runs ?? [];
  const drawn = [curves(runs, "accuracy", "validation accuracy (%)", " %"), curves(runs, "loss", "training loss", "")];
  return make("div", { class: "plots" }, ...drawn.filter(Boolean));
}

/* A table's rows as points; names where there is room for them. */
function scatter(ids, horizontal, titleX, titleY, same) {
  const points = ids.map(id => ({ id, name: document.getElementById(id).dataset.label, ...page.rows[id] }))
    .filter(row => row[horizontal] != null && (same ? row.mean != null : (row.mean ?? row.published) != null));
  if (points.length < (same ? 1 : 2)) return null;
  const reach = (value, spread) => value == null ? [] : [value - (spread ?? 0), value + (spread ?? 0)];
  const up = points.flatMap(row => [...reach(row.mean, row.spread), ...(same ? [] : reach(row.published))]);
  const across = points.flatMap(row => reach(row[horizontal], same ? row.publishedSpread : 0));
  const x = scale(same ? [...across, ...up] : across, LEFT, RIGHT, !same), y = scale(same ? [...across, ...up] : up, BOTTOM, TOP);
  const svg = axes(`${titleY} against ${titleX} of ${points.length} rows`, x, y, titleX, titleY);
  svg.setAttribute("role", "group");
  if (same) svg.append(make("line", { class: "same", x1: x.at(x.from), y1: y.at(y.from), x2: x.at(x.to), y2: y.at(y.to) }));
  const taken = [];
  for (const row of points) {
    const px = x.at(row[horizontal]), said = [row.name];
    const link = make("a", { href: "#" + row.id, svg: true });
    if (row.published != null) said.push(`published ${row.published}`);
    if (row.mean != null) said.push(`reproduced ${+row.mean.toFixed(3)}`);
    if (!same) said.push(`${short.format(row[horizontal])} ${titleX.replace(/,.*/, "")}`);
    link.append(make("title", {}, said.join(", ")));
    if (!same && row.published != null && row.mean != null) link.append(make("line", { class: "pair", x1: px, x2: px, y1: y.at(row.mean), y2: y.at(row.published) }));
    if (row.spread) link.append(make("line", { class: "bar", x1: px, x2: px, y1: y.at(row.mean - row.spread), y2: y.at(row.mean + row.spread) }));
    if (same && row.publishedSpread) link.append(make("line", { class: "bar published", x1: x.at(row.published - row.publishedSpread), x2: x.at(row.published + row.publishedSpread), y1: y.at(row.mean), y2: y.at(row.mean) }));
    if (!same && row.published != null) link.append(make("path", { class: "published", d: `M${px} ${y.at(row.published) - 5}l5 5l-5 5l-5 -5z` }));
    if (row.mean != null) link.append(make("circle", { class: "reproduced", cx: px, cy: y.at(row.mean), r: 4 }));
    for (const [value, spread] of [[row.mean, row.spread ?? 0], [same ? null : row.published, 0]]) {
      if (value != null) taken.push({ left: px - 6, right: px + 6, top: Math.min(y.at(value) - 6, y.at(value + spread)), bottom: Math.max(y.at(value) + 6, y.at(value - spread)) });
    }
    if (same && row.publishedSpread) taken.push({ left: x.at(row.published - row.publishedSpread), right: x.at(row.published + row.publishedSpread), top: y.at(row.mean) - 2, bottom: y.at(row.mean) + 2 });
    svg.append(link);
    row.place = [px, y.at(row.mean ?? row.published), link];
  }
  for (const row of points) name(row, taken);
  return make("figure", {}, svg);
}

function name(row, taken) {
  const [px, py, link] = row.place, width = row.name.length * 5.6;
  const places = [[px + 8, py + 3.5], [px - 8 - width, py + 3.5], [px - width / 2, py - 9], [px - width / 2, py + 16]];
  for (const [left, base] of places) {
    const box = { left, right: left + width, top: base - 9, bottom: base + 3 };
    const free = taken.every(other => box.right < other.left || box.left > other.right || box.bottom < other.top || box.top > other.bottom);
    if (!free || box.left < LEFT || box.right > RIGHT + 6 || box.top < TOP - 8 || box.bottom > BOTTOM + 2) continue;
    taken.push(box);
    link.append(make("text", { x: left, y: base, class: "name" }, row.name));
    return;
  }
}

function scatters(section) {
  const { unit } = section.dataset, ids = all(".results > tbody", section).map(body => body.id);
  const drawn = [
    scatter(ids, "published", `published (${unit})`, `reproduced (${unit})`, true),
    scatter(ids, "parameters", "parameters, fused", `${section.dataset.quantity} (${unit})`, false),
    scatter(ids, "multiplyAdds", "multiply-adds, fused", `${section.dataset.quantity} (${unit})`, false),
  ].filter(Boolean);
  section.querySelector(":scope > .plots").append(...drawn);
}

/* Rows open; closed ones with runs show their curves in a card, on hover and on focus. */
function open(body, wanted) {
  const button = body.querySelector(".toggle"), detail = body.rows[1];
  button.setAttribute("aria-expanded", wanted);
  body.classList.toggle("open", wanted);
  detail.hidden = !wanted;
  const place = detail.querySelector(".detail > .plots");
  if (!wanted || place.hasChildNodes() || !page.rows[body.id]?.runs.length) return;
  const drawn = learningCurves(body.id);
  place.append(...(drawn.hasChildNodes() ? drawn.childNodes : ["The learning curves of these runs are not here."]));
}

function openable(body, card) {
  const header = body.querySelector("th[scope=row]");
  const button = make("button", { class: "toggle", type: "button", "aria-controls": body.rows[1].id }, ...header.childNodes);
  header.append(button);
  open(body, false);
  button.addEventListener("click", () => { card.hide(); open(body, body.rows[1].hidden); });
  body.rows[0].addEventListener("pointerenter", event => { if (event.pointerType === "mouse") card.show(body); });
  body.rows[0].addEventListener("pointerleave", () => card.leave());
  button.addEventListener("focus", () => { if (button.matches(":focus-visible")) card.show(body); });
  button.addEventListener("blur", () => card.hide());
}

function hoverCard() {
  const card = make("div", { class: "card", role: "tooltip", id: "page-card", hidden: "" });
  document.body.append(card);
  let timer;
  const hide = () => { clearTimeout(timer); card.hidden = true; };
  const leave = () => { clearTimeout(timer); timer = setTimeout(hide, 250); };
  const show = body => {
    clearTimeout(timer);
    if (!body.rows[1].hidden || !page.rows[body.id]?.runs.length) return hide();
    timer = setTimeout(() => {
      const drawn = learningCurves(body.id);
      if (!drawn.hasChildNodes()) return hide();
      card.replaceChildren(make("p", {}, body.dataset.label), drawn);
      card.hidden = false;
      const row = body.rows[0].getBoundingClientRect(), box = card.getBoundingClientRect();
      const below = row.bottom + 6 + box.height < innerHeight;
      card.style.top = `${Math.max(8, below ? row.bottom + 6 : row.top - box.height - 6)}px`;
      card.style.left = `${Math.max(8, Math.min(innerWidth - box.width - 8, row.left + 220))}px`;
    }, 120);
  };
  card.addEventListener("pointerenter", () => clearTimeout(timer));
  card.addEventListener("pointerleave", leave);
  addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true });
  return { show, hide, leave };
}

function copyable(command) {
  const button = make("button", { class: "copy", type: "button" }, "Copy");
  command.after(button);
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(command.textContent); } catch {
      // Where a page from a file may not write to the clipboard, the old way.
      getSelection().selectAllChildren(command);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

function goToRow() {
  const body = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (body?.matches(".results > tbody")) { open(body, true); body.scrollIntoView({ block: "center" }); }
}

theme();
const card = hoverCard();
for (const table of all(".results")) sortable(table);
for (const body of all(".results > tbody")) openable(body, card);
for (const section of all("section[data-unit]")) scatters(section);
for (const command of all("code.command")) copyable(command);
document.getElementById("page-filter").addEventListener("input", filter);
document.getElementById("page-with-runs").addEventListener("change", filter);
document.querySelector(".tools").hidden = false;
addEventListener("hashchange", goToRow);
filter();
goToRow();
