// The two budgets: a slider on a logarithmic scale and a text with a unit, kept in step.

import { at } from "./dom.js";
import { amount, joules, seconds } from "./words.js";

const STEPS = 1000;
const KINDS = { energy: { unit: "J", write: joules, key: "energy_j" }, delay: { unit: "s", write: seconds, key: "delay_s" } };

/** The knobs; `changed(budget, moving)` is called with SI numbers or a typed text, `moving` while a slider is dragged. */
export class Budgets {
  constructor(changed) {
    this.changed = changed;
    this.value = { energy_j: 1, delay_s: 1 };
    this.range = { energy: [0.2, 5], delay: [0.2, 5] };
    for (const kind of Object.keys(KINDS)) this.wire(kind);
  }

  wire(kind) {
    const slider = at(kind), text = at(`${kind}-text`), { key } = KINDS[kind];
    slider.addEventListener("input", () => {
      const [low, high] = this.range[kind];
      const value = Number((low * (high / low) ** (slider.valueAsNumber / STEPS)).toPrecision(4));
      this.value = { ...this.value, [key]: value };
      this.write(kind);
      this.bad(kind, "");
      this.changed(this.value, true);
    });
    slider.addEventListener("change", () => this.changed(this.value, false));
    text.addEventListener("change", () => {
      const typed = text.value.trim();
      this.bad(kind, "");
      this.changed({ ...this.value, [key]: /^[-+0-9.e]+$/i.test(typed) ? Number(typed) : typed }, false);
    });
    text.addEventListener("keydown", (event) => { if (event.key === "Escape") this.write(kind); });
  }

  /** Sets the ranges of both sliders and their values. */
  set(budget, ranges = null) {
    if (ranges) this.range = { energy: [ranges.energy.low, ranges.energy.high], delay: [ranges.delay.low, ranges.delay.high] };
    this.value = { ...budget };
    for (const kind of Object.keys(KINDS)) {
      const value = budget[KINDS[kind].key], [low, high] = this.range[kind];
      this.range[kind] = [Math.min(low, value), Math.max(high, value)];
      this.write(kind);
      this.place(kind);
      this.bad(kind, "");
    }
  }

  /** The text and what is spoken of a value. */
  write(kind) {
    const { key, unit, write } = KINDS[kind], value = this.value[key];
    if (document.activeElement !== at(`${kind}-text`) || at(`${kind}-text`).getAttribute("aria-invalid") !== "true") at(`${kind}-text`).value = amount(value, unit);
    at(kind).setAttribute("aria-valuetext", write(value));
  }

  place(kind) {
    const [low, high] = this.range[kind], value = this.value[KINDS[kind].key];
    if (document.activeElement === at(kind) && at(kind).matches(":active")) return;
    at(kind).value = high > low ? String(Math.round(STEPS * Math.log(value / low) / Math.log(high / low))) : "0";
  }

  /** Says what is wrong with a typed budget; true if the field is one of these. */
  refuse(error) {
    const kind = Object.keys(KINDS).find((one) => error.field.endsWith(KINDS[one].key));
    if (!kind) return false;
    this.bad(kind, error.message);
    return true;
  }

  bad(kind, text) {
    at(`${kind}-bad`).hidden = !text;
    at(`${kind}-bad`).textContent = text;
    at(`${kind}-text`).setAttribute("aria-invalid", text ? "true" : "false");
  }
}
