// What other budgets would buy, and how simpler ways of planning do: asked for when the knobs come to rest.

import { post } from "./api.js";
import { chart } from "./chart.js";
import { at, h, put, table } from "./dom.js";
import { lane } from "./latest.js";
import { count, gap, joules, seconds, significant } from "./words.js";

const POINTS = 13, FEW = 3;
const LARGE = 1500; // devices from which on fronts and baselines wait to be asked for
const LONGEST = 3; // times as bad: longer bars are cut, or one hopeless way would hide all others
const AXES = {
  energy: { title: "More energy, the same delay", key: "energy_j", other: "delay_s", write: joules, label: "energy budget" },
  delay: { title: "More time, the same energy", key: "delay_s", other: "energy_j", write: seconds, label: "delay budget" },
};

/** The fronts and the comparison; `take(budgets)` moves the knobs. */
export class Explore {
  constructor(take, fail) {
    this.take = take;
    this.points = [];
    this.of = null; // what the fronts are about
    this.compared = null; // what the comparison is about
    this.asked = null;
    this.plan = null;
    const quiet = (name) => (error) => { put(at(name), h("p", { class: "bad" }, error.message)); fail(error); };
    this.fronts = lane({
      ask: (what, signal) => post("pareto", what, signal), patience_ms: 0,
      show: (answer, what) => { this.points = answer.points; this.of = what; this.draw(); this.drawTables(); this.fresh("front-section", true); }, fail: quiet("front"),
    });
    this.compares = lane({
      ask: (what, signal) => post("compare", what, signal), patience_ms: 0,
      show: (answer, what) => { this.compared = what; drawCompare(answer); this.fresh("compare-section", true); }, fail: quiet("compare"),
    });
  }

  /** The scenario is another one: nothing that is shown is about it. */
  forget() {
    this.fronts.drop();
    this.compares.drop();
    this.points = [];
    this.of = null;
    this.compared = null;
    put(at("front"), h("p", { class: "muted" }, "being planned"));
    put(at("front-tables"));
    put(at("compare"), h("p", { class: "muted" }, "being planned"));
  }

  /** A knob moves: what is under way would be about where it was, and the processor has better to do. */
  wait() {
    this.fronts.drop();
    this.compares.drop();
  }

  /** The knobs are moving: the ring goes along on the front of the budget that moves. */
  follow(plan) {
    this.plan = plan;
    if (!plan.has_plan) return;
    if (this.points.length > 0) this.draw();
    if (this.compared) this.fresh("compare-section", same(this.compared, plan));
  }

  /** The knobs rest here; of a large fleet the rest is planned when a button is pressed. */
  settle(plan, scenario) {
    this.plan = plan;
    if (!plan.has_plan) return; // the sections are not shown
    if (scenario.devices.count <= LARGE) this.begin(plan, scenario);
    else if (!same(this.of, plan) && !(same(this.asked, plan) && !this.fronts.idle)) {
      const button = (text) => h("p", { class: "buttons" }, h("button", { type: "button", onclick: () => this.begin(this.plan, scenario) }, text));
      put(at("front"), button(`Plan the fronts and the baselines of ${count(scenario.devices.count)} devices, which takes a while`));
      put(at("compare"), h("p", { class: "muted" }, "not planned yet"));
    }
  }

  begin(plan, scenario) {
    const target = { scenario_id: plan.scenario_id, energy_j: plan.budget.energy_j, delay_s: plan.budget.delay_s };
    this.asked = target;
    if (scenario.devices.count > LARGE) {
      put(at("front"), h("p", { class: "muted" }, "being planned"));
      put(at("compare"), h("p", { class: "muted" }, "being planned"));
    }
    const wide = (range, value) => [Math.min(range.low, value), Math.max(range.high, value)];
    if (!same(this.of, plan)) this.fronts.want({ ...target, points: scenario.devices.count > LARGE ? FEW : POINTS, tolerance: 1e-2, energy_range: wide(scenario.energy_range_j, target.energy_j), delay_range: wide(scenario.delay_range_s, target.delay_s) });
    if (!same(this.compared, plan)) this.compares.want({ ...target, tolerance: 1e-2 });
  }

  fresh(section, is) {
    at(section).setAttribute("aria-busy", String(!is));
    at(section).classList.toggle("waiting", !is);
    if (section === "compare-section") at("compare").classList.toggle("stale", !is);
  }

  /** The charts: cheap enough for every move of a knob. */
  draw() {
    const { plan, of } = this;
    const figures = Object.entries(AXES).map(([axis, { title, key, other, label }]) => {
      const here = this.points.filter((point) => point.axis === axis && point.objective !== null);
      if (here.length === 0) return null;
      const unit = scaled(Math.max(...here.map((point) => point[key])), axis);
      const figure = chart(title, [{ label: "objective", colour: axis === "energy" ? "pre" : "fine", style: "dots", x: here.map((point) => point[key]), y: here.map((point) => point.objective) }],
        { label: `${label} (${unit.name})`, divide: unit.divide, log: true }, { label: "objective", log: true },
        { mark: plan.has_plan ? { x: plan.budget[key], y: plan.objective, label: "this plan" } : null,
          pick: (index) => this.take({ ...plan.budget, [other]: of[other], [key]: here[index][key] }) });
      figure.dataset.axis = axis;
      figure.classList.toggle("stale", of[other] !== plan.budget[other]);
      return figure;
    }).filter(Boolean);
    put(at("front"), figures.length ? figures : h("p", { class: "muted" }, "No budget in this range is enough."));
  }

  /** The same points as tables, which are drawn when the points are new. */
  drawTables() {
    const { of } = this;
    put(at("front-tables"), Object.entries(AXES).map(([axis, { title, key, other, write, label }]) => {
      const take = (point) => h("button", { type: "button", class: "row-button", "aria-label": `Take ${write(point[key])}`, onclick: () => this.take({ [other]: of[other], [key]: point[key] }) }, "Take");
      return table(title, [[label, "r"], ["Rounds", "r"], ["Objective", "r"], ["Gap", "r"], "Take it"], this.points.filter((point) => point.axis === axis).map((point) => [
        write(point[key]), point.objective === null ? "infeasible" : `${count(point.pretrain_rounds)} + ${count(point.finetune_rounds)}`,
        significant(point.objective, 5), gap(point.relative_gap), point.objective === null ? "" : take(point),
      ]), { shown: true });
    }));
  }
}

const same = (asked, plan) => asked !== null && asked.scenario_id === plan.scenario_id && asked.energy_j === plan.budget.energy_j && asked.delay_s === plan.budget.delay_s;

function scaled(most, axis) {
  const steps = axis === "energy" ? [[1e6, "MJ"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"]] : [[7200, "h", 3600], [300, "min", 60], [1, "s"], [1e-3, "ms"]];
  const [from, name, divide] = steps.find(([one]) => most >= (axis === "energy" ? 2 * one : one)) ?? steps.at(-1);
  return { name, divide: divide ?? from };
}

function drawCompare(answer) {
  const worst = Math.min(LONGEST, Math.max(1, ...answer.compared.map((one) => one.ratio ?? 1)));
  const bar = (ratio) => h("span", { class: `ratio ${ratio < 1.0005 ? "pre" : "idle"}${ratio > LONGEST ? " cut" : ""}`, "aria-hidden": "true", style: { width: `${100 * Math.min(ratio, worst) / worst}%` } });
  put(at("compare"), table("The joint plan and the baselines, best first", ["Plan", ["Rounds", "r"], ["Objective", "r"], "Ratio", ["Energy", "r"], ["Delay", "r"]],
    answer.compared.map((one) => ({
      class: one.name === "joint" ? "best" : false,
      cells: [one.note ? h("span", { title: one.note }, one.title) : one.title,
        one.pretrain_rounds === null ? one.status.replaceAll("_", " ") : `${count(one.pretrain_rounds)} + ${count(one.finetune_rounds)}`, significant(one.objective, 5),
        one.ratio === null ? "" : [h("span", { class: "num ratio-text" }, one.ratio.toFixed(3)), h("span", { class: "ratio-track" }, bar(one.ratio))], joules(one.energy_j), seconds(one.delay_s)],
    }))));
}
