// Line charts as inline SVG in the manner of pretune/report/charts.py: colours are classes of the style sheet.

import { h, svg } from "./dom.js";
import { significant } from "./words.js";

const WIDTH = 520, HEIGHT = 300, LEFT = 66, RIGHT = 18, TOP = 26, BOTTOM = 48;
const MOST_POINTS = 240, FEW_POINTS = 60;

/**
 * The chart as a <figure>, or null when there is nothing to draw.
 * lines: [{label, colour, x, y, style: "line" | "dashed" | "dots" | "noisy"}] (noisy: the running mean in its range); axes: {label, divide, log, percent, fromZero};
 * options.bands: [{label, colour, start, end}], options.rules: [{label, axis, at}], options.mark: {x, y, label},
 * options.events: {label, at: [x, …]} (something happened there),
 * options.pick: called with the index of the point of the first line that is pressed.
 */
export function chart(title, lines, x, y, options = {}) {
  const shown = lines.map((line) => clean(line, x, y)).filter((line) => line.x.length > 0);
  if (shown.length === 0) return null;
  const { bands = [], rules = [], mark = null, events = { at: [] } } = options;
  const more = (axis, name) => [
    ...rules.filter((rule) => rule.axis === name).map((rule) => rule.at),
    ...(name === "x" ? bands.flatMap((band) => [band.start, band.end]) : []),
    ...(mark ? [mark[name]] : []),
  ].map((value) => value / (axis.divide ?? 1)).filter((value) => Number.isFinite(value) && !(axis.log && value <= 0));
  const xs = scale(x, [...shown.flatMap((line) => line.x), ...more(x, "x")], LEFT, WIDTH - RIGHT);
  const ys = scale(y, [...shown.flatMap((line) => line.low ? [...line.low, ...line.high] : line.y), ...more(y, "y")], HEIGHT - BOTTOM, TOP);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${spoken(shown, x, y)}${events.at.length ? ` ${events.label}: ${events.at.length} times.` : ""}` },
    bands.filter((band) => band.end > band.start).map((band) => drawBand(band, xs, x)),
    grid(xs, ys, x, y),
    events.at.map((value) => drawEvent(value, xs, x)),
    rules.map((rule) => drawRule(rule, xs, ys, rule.axis === "x" ? x : y)),
    shown.map((line) => drawLine(line, xs, ys)),
    mark ? drawMark(mark, xs, ys, x, y) : null);
  if (options.pick) picking(drawing, shown[0], xs, options.pick);
  return h("figure", { class: "chart" },
    h("figcaption", {}, title), drawing,
    h("ul", { class: "legend" }, shown.length > 1 ? shown.map((line) =>
      h("li", {}, h("span", { class: `key ${line.colour} ${line.style}` }), line.label)) : [],
    events.at.length ? h("li", {}, h("span", { class: "key event" }), events.label) : null));
}

function clean(line, x, y) {
  const keep = [];
  for (let i = 0; i < line.x.length; i++) {
    const a = line.x[i], b = line.y[i];
    if (a === null || b === null || !Number.isFinite(a) || !Number.isFinite(b)) continue;
    if ((x.log && a <= 0) || (y.log && b <= 0)) continue;
    keep.push(i);
  }
  let used = keep;
  if (line.style === "noisy" && keep.length > FEW_POINTS) return buckets(line, keep, x, y);
  if (keep.length > MOST_POINTS) {
    used = Array.from({ length: MOST_POINTS }, (_, i) => keep[Math.round(i * (keep.length - 1) / (MOST_POINTS - 1))]);
  }
  return {
    label: line.label, colour: line.colour, style: line.style ?? "line", from: used,
    x: used.map((i) => line.x[i] / (x.divide ?? 1)), y: used.map((i) => line.y[i] / (y.divide ?? 1)),
  };
}

/** Neighbouring points together: their last x, and the least, mean and greatest y. */
function buckets(line, keep, x, y) {
  const number = Math.min(Math.max(Math.floor(keep.length / 4), FEW_POINTS / 2), MOST_POINTS / 2);
  const found = { label: line.label, colour: line.colour, style: "noisy", from: [], x: [], y: [], low: [], high: [] };
  for (let i = 0; i < number; i++) {
    const on = keep.slice(Math.floor(i * keep.length / number), Math.floor((i + 1) * keep.length / number));
    const values = on.map((one) => line.y[one] / (y.divide ?? 1));
    found.from.push(on.at(-1));
    found.x.push(line.x[on.at(-1)] / (x.divide ?? 1));
    found.y.push(values.reduce((sum, value) => sum + value, 0) / values.length);
    found.low.push(Math.min(...values));
    found.high.push(Math.max(...values));
  }
  return found;
}

function spoken(lines, x, y) {
  return lines.map((line) => {
    const last = line.x.length - 1;
    return `${line.label}: ${tick(line.y[0], y)} at ${tick(line.x[0], x)} to ${tick(line.y[last], y)} at ${tick(line.x[last], x)}`;
  }).join("; ") + `. Across: ${x.label}; up: ${y.label}.`;
}

function scale(axis, values, start, end) {
  let low = Math.min(...values), high = Math.max(...values);
  if (axis.log) {
    const margin = Math.max((high / low) ** 0.04, 1.02);
    low /= margin;
    high *= margin;
  } else {
    if (axis.fromZero && low >= 0) low = 0;
    if (high - low <= 1e-9 * Math.max(Math.abs(high), Math.abs(low), 1e-300)) {
      low -= Math.abs(low) * 0.1 || (axis.fromZero ? 0 : 1);
      high += Math.abs(high) * 0.1 || 1;
    }
    const margin = 0.04 * (high - low);
    if (!(axis.fromZero && low === 0)) low -= margin;
    high += margin;
    if (axis.percent) [low, high] = [Math.max(low, 0), Math.min(high, 1)];
  }
  const place = (value) => (axis.log ? Math.log10(value) : value);
  const to = (value) => Math.round(10 * (start + (place(value) - place(low)) / (place(high) - place(low)) * (end - start))) / 10;
  return Object.assign(to, { low, high });
}

/** Round values between two bounds, at steps of 1, 2, 2.5 or 5 times a power of ten. */
export function ticks(low, high, most = 5) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough * (1 - 1e-9)) ?? 10 * power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(low, high) {
  const decades = Math.log10(high / low);
  if (decades < 0.35) return ticks(low, high, 4);
  const factors = decades > 3 ? [1] : decades > 1.4 ? [1, 3] : [1, 2, 5];
  const found = [], stride = Math.max(1, Math.ceil(decades / 6));
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += stride) {
    for (const factor of factors) {
      const value = Number((factor * 10 ** power).toPrecision(6));
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length > 1 ? found : ticks(low, high, 4);
}

function grid(xs, ys, x, y) {
  const floor = HEIGHT - BOTTOM;
  const across = (y.log ? logTicks : ticks)(ys.low, ys.high).map((value) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: ys(value), y2: ys(value) }),
    svg("text", { class: "tick end", x: LEFT - 8, y: ys(value) + 5 }, tick(value, y)),
  ]);
  const up = (x.log ? logTicks : ticks)(xs.low, xs.high).map((value) => [
    svg("line", { class: "axis", x1: xs(value), x2: xs(value), y1: floor, y2: floor + 4 }),
    svg("text", { class: "tick mid", x: xs(value), y: floor + 19 }, tick(value, x)),
  ]);
  return [across, up,
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: floor, y2: floor }),
    svg("text", { class: "label mid", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 7 }, x.label),
    svg("text", { class: "label", x: 4, y: 14 }, y.label)];
}

function tick(value, axis) {
  return axis.percent ? `${significant(value * 100, 3)} %` : significant(value);
}

function drawBand(band, xs, x) {
  const [start, end] = [band.start, band.end].map((value) => xs(Math.min(Math.max(value / (x.divide ?? 1), xs.low), xs.high)));
  const name = end - start > 9 * band.label.length
    ? svg("text", { class: `stage ${band.colour} mid`, x: (start + end) / 2, y: TOP - 9 }, band.label) : null;
  return [svg("rect", { class: `band ${band.colour}`, x: start, y: TOP, width: Math.max(end - start, 0), height: HEIGHT - BOTTOM - TOP }), name];
}

function drawRule(rule, xs, ys, axis) {
  const across = rule.axis === "y", at = (across ? ys : xs)(rule.at / (axis.divide ?? 1));
  const ends = across ? { x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at } : { x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM };
  const name = across ? { class: "rule-name", x: LEFT + 6, y: at + 16 } : { class: "rule-name end", x: at - 5, y: HEIGHT - BOTTOM - 8 };
  return [svg("line", { class: "rule", ...ends }), svg("text", name, rule.label)];
}

/** Something that happened: a line up the chart, with a foot. */
function drawEvent(value, xs, x) {
  const at = xs(Math.min(Math.max(value / (x.divide ?? 1), xs.low), xs.high)), floor = HEIGHT - BOTTOM;
  return [svg("line", { class: "event", x1: at, x2: at, y1: TOP, y2: floor }), svg("path", { class: "event foot", d: `M${at - 4} ${floor}L${at + 4} ${floor}L${at} ${floor - 7}Z` })];
}

function drawLine(line, xs, ys) {
  const points = line.x.map((value, i) => `${xs(value)},${ys(line.y[i])}`);
  const parts = [];
  if (line.low) {
    const around = [...line.x.map((value, i) => `${xs(value)},${ys(line.high[i])}`), ...line.x.map((value, i) => `${xs(value)},${ys(line.low[i])}`).reverse()];
    parts.push(svg("path", { class: `range ${line.colour}`, d: `M${around.join("L")}Z` }));
  }
  if (points.length > 1) parts.push(svg("path", { class: `line ${line.colour} ${line.style}`, d: `M${points.join("L")}` }));
  if (line.style === "dots" || points.length === 1) {
    parts.push(line.x.map((value, i) => svg("circle", { class: line.colour, cx: xs(value), cy: ys(line.y[i]), r: 3.2 })));
  }
  return parts;
}

function drawMark(mark, xs, ys, x, y) {
  const cx = xs(mark.x / (x.divide ?? 1)), cy = ys(mark.y / (y.divide ?? 1));
  const end = cx > WIDTH * 0.6;
  return [
    svg("line", { class: "rule", x1: cx, x2: cx, y1: cy, y2: HEIGHT - BOTTOM }),
    svg("circle", { class: "mark", cx, cy, r: 7 }),
    svg("text", { class: `mark-name ${end ? "end" : ""}`, x: end ? cx - 11 : cx + 11, y: Math.max(cy - 9, TOP + 6) }, mark.label),
  ];
}

/** A press takes the nearest point of a line; the same can be done from the table beside the chart. */
function picking(drawing, line, xs, pick) {
  drawing.classList.add("picks");
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * WIDTH;
    let best = 0;
    line.x.forEach((value, i) => { if (Math.abs(xs(value) - at) < Math.abs(xs(line.x[best]) - at)) best = i; });
    pick(line.from[best]);
  });
}
