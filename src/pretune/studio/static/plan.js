// Draws a plan, or why there is none.

import { at, h, put, table } from "./dom.js";
import { count, gap, hertz, joules, percent, plural, seconds, significant, watts } from "./words.js";

const COLOURS = { "server compute": "pre", broadcast: "down", "device compute": "fine", upload: "up", waiting: "idle" };
const UNITS = { energy: joules, battery: joules, delay: seconds, deadline: seconds, clock: hertz, power: watts, bandwidth: hertz };
const STATUS = {
  optimal: "Optimal", feasible: "A valid plan", time_limit: "Out of time", infeasible: "Infeasible", numerical_failure: "Not solved",
};

/** Draws everything but the devices; `take` sets budgets to those of a suggestion. */
export function drawPlan(plan, take) {
  at("title").textContent = plan.name;
  at("criterion").textContent = plan.has_plan ? `Minimises ${plan.criterion_words}` : STATUS[plan.status] ?? plan.status;
  at("status").textContent = plan.message;
  at("infeasible").hidden = plan.has_plan;
  at("feasible").hidden = !plan.has_plan;
  at("tiles").hidden = !plan.has_plan;
  if (!plan.has_plan) {
    drawInfeasible(plan, take);
    return;
  }
  drawTiles(plan);
  drawSplit(plan);
  drawSpending(plan);
  put(at("prices"), plan.prices.map((price) => h("li", {}, price.sentence)));
  at("prices-note").textContent = plan.prices_note;
  drawProof(plan);
}

function drawTiles(plan) {
  const tile = (name, value, note) => h("li", {}, h("span", { class: "tile-name" }, name), h("span", { class: "tile-value" }, value), h("span", { class: "tile-note" }, note));
  put(at("tiles"),
    tile("Objective", significant(plan.objective, 5), `proven: none below ${significant(plan.lower_bound, 5)}`),
    tile("Rounds", `${count(plan.pretrain.rounds)} + ${count(plan.finetune.rounds)}`, "pre-training + fine-tuning"),
    tile("Energy", joules(plan.energy_j), `${percent(plan.energy_j / plan.budget.energy_j)} of ${joules(plan.budget.energy_j)}`),
    tile("Delay", seconds(plan.delay_s), `${percent(plan.delay_s / plan.budget.delay_s)} of ${seconds(plan.budget.delay_s)}`));
}

function drawInfeasible(plan, take) {
  const why = plan.infeasible;
  put(at("infeasible-body"), why === null ? h("p", {}, plan.message) : [
    h("ul", { class: "plain" }, why.sentences.map((line) => h("li", {}, line))),
    h("p", { class: "buttons" }, why.suggestions.map((one) =>
      h("button", { type: "button", class: "main", onclick: () => take(one) }, one.words))),
  ]);
}

/** Rounds, energy and delay, each as one bar that the stages share. */
function drawSplit(plan) {
  const { pretrain, finetune } = plan;
  const bar = (name, write, first, second) => {
    const whole = first + second || 1;
    const piece = (colour, label, value) => h("span", { class: `part ${colour}`, style: { width: `${100 * value / whole}%` }, title: `${label}: ${write(value)}` },
      value / whole > 0.16 ? h("span", { class: "said" }, write(value)) : null);
    return [h("span", { class: "muted" }, name),
      h("span", { class: "track", role: "img", "aria-label": `${name}: pre-training ${write(first)}, fine-tuning ${write(second)}` },
        piece("pre", "Pre-training", first), piece("fine", "Fine-tuning", second))];
  };
  const batches = plan.devices ? range(plan.devices.batch, count) : "";
  const clocks = plan.devices ? range(plan.devices.clock_hz, (value) => hertz(value, 3)) : "";
  const steps = finetune.local_steps ? `, ${plural(finetune.local_steps, "local step")}` : "";
  put(at("split"),
    h("ul", { class: "legend" }, h("li", {}, h("span", { class: "key box pre" }), "Pre-training, at the server"), h("li", {}, h("span", { class: "key box fine" }), "Fine-tuning, on the devices")),
    h("div", { class: "split" }, bar("Rounds", count, pretrain.rounds, finetune.rounds), bar("Energy", joules, pretrain.energy_j, finetune.energy_j), bar("Delay", seconds, pretrain.delay_s, finetune.delay_s)),
    table("Both stages", ["Stage", ["Rounds", "r"], ["Batch", "r"], ["Clock", "r"], ["One round", "r"], ["All rounds", "r"]], [
      ["Pre-training", count(pretrain.rounds), pretrain.rounds ? count(pretrain.batch) : "not used", pretrain.rounds ? hertz(pretrain.clock_hz) : "", pretrain.rounds ? seconds(pretrain.round_s) : "", pretrain.rounds ? seconds(pretrain.delay_s) : ""],
      [`Fine-tuning${steps}`, count(finetune.rounds), finetune.rounds ? batches : "not used", finetune.rounds ? clocks : "", finetune.rounds ? seconds(finetune.round_s) : "", finetune.rounds ? seconds(finetune.delay_s) : ""],
    ]));
}

function range(values, write) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return write(low) === write(high) ? write(low) : `${write(low)} to ${write(high)}`;
}

function drawSpending(plan) {
  const meter = (name, key, write) => {
    const used = plan[key], limit = plan.budget[key];
    return h("div", { class: "meter" },
      h("div", { class: "meter-head" }, h("span", {}, name), h("span", { class: "num" }, h("b", {}, write(used, 5)), ` of ${write(limit, 5)} `, h("span", { class: "muted" }, `(${percent(used / limit, 2)})`))),
      h("div", { class: "track", role: "img", "aria-label": `${name}: ${write(used, 5)} of ${write(limit, 5)}` },
        plan.spending.filter((one) => one[key] > 0).map((one) => h("span", { class: `part ${COLOURS[one.cause]}`, style: { width: `${100 * Math.min(one[key] / limit, 1)}%` }, title: `${one.stage}, ${one.cause}: ${write(one[key])}` }))));
  };
  put(at("meters"), meter("Energy", "energy_j", joules), meter("Delay", "delay_s", seconds));
  put(at("spending"), table("Energy and delay by stage and cause", ["Stage", "Cause", ["Energy", "r"], ["of all", "r"], ["Delay", "r"], ["of all", "r"]],
    plan.spending.map((one) => [one.stage, [h("span", { class: `key box ${COLOURS[one.cause]}` }), one.cause],
      joules(one.energy_j), h("span", { class: "muted" }, plan.energy_j > 0 ? percent(one.energy_j / plan.energy_j) : "-"),
      seconds(one.delay_s), h("span", { class: "muted" }, plan.delay_s > 0 ? percent(one.delay_s / plan.delay_s) : "-")])));
}

function drawProof(plan) {
  const fact = (name, value) => (value ? h("div", {}, h("dt", {}, name), h("dd", {}, value)) : null);
  put(at("facts"),
    fact("Objective of this plan", significant(plan.objective, 7)), fact("Proven lower bound", significant(plan.lower_bound, 7)),
    fact("Relative gap", gap(plan.relative_gap)), fact("Binding limits", plan.binding), fact("Proof", plan.certificate?.words),
    fact("Promise", plan.promise), fact("Privacy", plan.privacy), fact("Planned in", seconds(plan.planning_s, 3)));
  put(at("limits"), table("Limits that are not one device's", ["Limit", ["Value", "r"], ["Limit", "r"], ["Left", "r"], "Binds"],
    plan.limits.map((one) => {
      const write = UNITS[one.name.split(":")[0]] ?? ((value, digits) => significant(value, digits));
      return [one.name, write(one.value, 5), write(one.limit, 5), write(Math.max(one.limit - one.value, 0), 3), one.binding ? h("span", { class: "pill" }, "binds") : ""];
    })));
}
