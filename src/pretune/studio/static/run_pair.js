// Two runs side by side: what each learnt over time and over energy, and the figures that differ.

import { chart } from "./chart.js";
import { h, put, table } from "./dom.js";
import { energyAxis, maximum, stateOf, timeAxis } from "./run_view.js";
import { count, joules, moment, percent, seconds, significant } from "./words.js";

/** Draws the answer of `runs/compare`. */
export function drawBoth(place, { a, b, differences }) {
  const names = [a, b].map(({ run }, i) => `${"AB"[i]}: ${run.name}, ${moment(run.created)}`);
  put(place,
    h("header", {}, h("p", { class: "kicker" }, h("a", { href: "#/runs" }, "All runs"), " · side by side"), h("h1", {}, "Two runs"),
      h("ul", { class: "plain" }, [a, b].map(({ run }, i) => h("li", {}, h("span", { class: `key box ${colour(i)}` }), h("a", { href: `#/runs/${run.id}` }, names[i]), " ", stateOf(run))))),
    h("section", { "aria-labelledby": "h-both" }, h("h2", { id: "h-both" }, "What they learnt"), h("div", { class: "charts" }, [
      over(a, b, "realised_s", "test_accuracy", "Accuracy over time", timeAxis, percentAxis),
      over(a, b, "realised_j", "test_accuracy", "Accuracy over energy", energyAxis, percentAxis),
      over(a, b, "realised_s", "test_loss", "Test loss over time", timeAxis, lossAxis),
      over(a, b, "realised_j", "test_loss", "Test loss over energy", energyAxis, lossAxis),
    ].filter(Boolean))),
    h("section", { "aria-labelledby": "h-differ" }, h("h2", { id: "h-differ" }, "Figures"),
      table("Figures of both runs", ["", ["A", "r"], ["B", "r"], ["B less A", "r"]], differences.map((one) => [
        one.name.replace(/ \((J|s)\)$/, ""), said(one.name, one.a), said(one.name, one.b),
        typeof one.a === "number" && typeof one.b === "number" ? said(one.name, one.b - one.a) : ""]))));
}

const colour = (i) => (i === 0 ? "pre" : "fine");
const percentAxis = { label: "accuracy", percent: true, fromZero: true };
const lossAxis = { label: "test loss", fromZero: true };

function over(a, b, x, y, title, axis, up) {
  const lines = [a, b].map((one, i) => ({ label: "AB"[i], colour: colour(i), style: "dots", x: one.series?.[x] ?? [], y: one.series?.[y] ?? [] }));
  return chart(title, lines, axis(Math.max(...lines.map((line) => maximum(line.x)))), up);
}

function said(name, value) {
  if (value === null || value === undefined) return "-";
  if (typeof value === "string") return value;
  if (/accuracy/.test(name)) return percent(value);
  if (/\(J\)$/.test(name)) return joules(value);
  if (/\(s\)$/.test(name)) return seconds(value);
  return Number.isInteger(value) ? count(value) : significant(value);
}
