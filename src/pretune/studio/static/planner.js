// The page that plans: knobs, scenario, plan. Moving a knob asks for a quick plan, coming to rest for a precise one.

import { get, post } from "./api.js";
import { Budgets } from "./budgets.js";
import { DeviceTable } from "./devices.js";
import { at, download, onFrame, say } from "./dom.js";
import { Explore } from "./explore.js";
import { lane, settled } from "./latest.js";
import { drawPlan } from "./plan.js";
import { Source } from "./source.js";
import { count, seconds, significant } from "./words.js";

const QUICK = 1e-2, PRECISE = 1e-4;
const LARGE = 1500; // devices from which on a quick plan comes first whenever the knobs jump
const REST_MS = 250, LATER_MS = 700;

/** Everything on the plan's page; `notice(error)` shows what went wrong, `go(hash)` leaves for another page. */
export class Planner {
  constructor({ notice, go, quiet }) {
    Object.assign(this, { notice, go, quiet, scenario: null, plan: null, precise: false });
    this.devices = new DeviceTable();
    this.budgets = new Budgets((budget, moving) => this.moved(budget, moving));
    this.source = new Source((request, how) => this.read(request, how));
    this.source.refused = (error, name) => notice(error, name);
    this.source.measure = async (wanted) => {
      const run = await post("calibrate", { scenario_id: this.scenario.scenario_id, ...wanted });
      go(`#/runs/${run.id}`);
    };
    this.explore = new Explore((budget) => this.take(budget), () => {});
    this.lane = lane({
      ask: (what, signal) => post("plan", what, signal),
      show: (plan, what) => onFrame("plan", () => this.show(plan, what)),
      fail: (error, what) => this.failed(error, what),
      yields: (what) => what.tolerance === PRECISE,
      busy: (is) => { at("busy").hidden = !is; },
    });
    this.rest = settled(REST_MS, () => this.want(PRECISE));
    this.later = settled(LATER_MS, () => { if (this.plan) this.explore.settle(this.plan, this.scenario); });
    at("reset").addEventListener("click", () => this.take(this.scenario.budget));
    at("save-plan").addEventListener("click", () => this.save("plan/file", "plan.json"));
    at("save-scenario").addEventListener("click", () => this.save("scenario/file", "scenario.json"));
    at("start-run").addEventListener("click", () => this.run());
    // a new plan takes every round's clocks and powers to be chosen
    at("run-replan").addEventListener("change", () => { if (at("run-replan").value !== "off") at("run-control").value = "rounds"; });
    at("run-control").addEventListener("change", () => { if (at("run-control").value === "none") at("run-replan").value = "off"; });
  }

  /** Begins: the scenario of the address, the operator's, or the first example. */
  async begin(status, wanted) {
    this.status = status;
    const { examples } = await get("examples");
    this.source.offer(examples);
    const tries = [wanted?.scenario_id && { scenario_id: wanted.scenario_id }, status.first && { scenario_id: status.first }, { example: examples[0].name }].filter(Boolean);
    for (const request of tries) {
      try {
        await this.read(request);
        break;
      } catch (error) {
        if (request === tries.at(-1)) this.notice(error);
      }
    }
    if (wanted?.budget && this.scenario?.scenario_id === wanted.scenario_id) this.take(wanted.budget);
  }

  /** The address has changed to this scenario and these budgets, by a link or the browser's way back. */
  async visit(wanted) {
    if (wanted === null || this.scenario === null) return;
    try {
      if (wanted.scenario_id !== this.scenario.scenario_id) await this.read({ scenario_id: wanted.scenario_id });
      if (wanted.budget) this.take(wanted.budget);
    } catch (error) {
      this.notice(error);
    }
  }

  /** Reads a scenario and plans it. */
  async read(request, how = {}) {
    const scenario = await post("scenario", request);
    const edited = this.scenario !== null && (request.changes || request.fleet);
    const kept = edited ? this.budgets.value : null;
    this.scenario = scenario;
    this.lane.drop();
    this.explore.forget();
    this.quiet();
    this.source.show(scenario, how);
    this.budgets.set(kept ?? scenario.budget, { energy: scenario.energy_range_j, delay: scenario.delay_range_s });
    at("start-run").disabled = !(scenario.can_run && this.status.can_run);
    at("run-note").textContent = !this.status.can_run ? "Runs need the optional part: pip install 'pretune[train]'." : scenario.cannot_run_because;
    this.jump();
  }

  /** The budgets are other ones at once: a precise plan, after a quick one where that would take long. */
  jump() {
    const large = this.scenario.devices.count > LARGE;
    this.want(large ? QUICK : PRECISE);
    if (large) this.rest();
  }

  want(tolerance) {
    if (this.scenario === null) return;
    this.lane.want({ scenario_id: this.scenario.scenario_id, ...this.budgets.value, ...this.typed, tolerance });
  }

  moved(budget, moving) {
    const typed = Object.entries(budget).filter(([, value]) => typeof value === "string");
    this.typed = Object.fromEntries(typed);
    if (!typed.length) this.budgets.value = budget;
    if (moving) this.explore.wait();
    if (!moving) {
      this.jump();
      return;
    }
    this.want(QUICK);
    this.rest();
  }

  /** Sets both budgets, from a suggestion or a point of a front. */
  take(budget) {
    this.typed = {};
    this.budgets.set({ energy_j: budget.energy_j, delay_s: budget.delay_s });
    this.jump();
  }

  show(plan, what) {
    this.plan = plan;
    if (what.tolerance === PRECISE) {
      this.typed = {};
      if (this.lane.idle) this.budgets.set(plan.budget);
      say(plan.has_plan ? `${plan.message}. ${count(plan.pretrain.rounds)} rounds of pre-training, ${count(plan.finetune.rounds)} of fine-tuning; objective ${significant(plan.objective)}.` : plan.message);
      if (!location.hash.startsWith("#/runs")) history.replaceState(null, "", address(plan));
    }
    drawPlan(plan, (one) => this.take(one));
    if (plan.has_plan) {
      at("devices-note").textContent = plan.devices === null ? "" : `One round takes ${seconds(plan.finetune.round_s)}. ${this.scenario.access === "tdma" ? "Devices compute side by side and upload one after another." : "Devices upload side by side; the round ends with the slowest."}`;
      this.devices.show(plan.devices);
    }
    at("save-plan").disabled = !plan.has_plan;
    at("start-run").disabled = !(plan.has_plan && this.scenario.can_run && this.status.can_run);
    this.explore.follow(plan);
    this.later();
    // For tests and measurements: which budgets are on the screen.
    at("results").dataset.shown = `${plan.budget.energy_j} ${plan.budget.delay_s}`;
    at("results").dataset.tolerance = String(what.tolerance);
  }

  failed(error, what) {
    // a fleet too large for a precise plan within the studio's time keeps the quick one, which says how near it is
    if (error.field === "time_limit" && what.tolerance === PRECISE && this.shownFor(what)) return;
    if (error.status === 404 && error.field === "scenario_id") {
      this.read({ scenario: this.scenario.tree }).catch((again) => this.notice(again));
    } else if (!this.budgets.refuse(error)) this.notice(error);
  }

  shownFor({ scenario_id, energy_j, delay_s }) {
    const { plan } = this;
    return plan !== null && plan.scenario_id === scenario_id && plan.budget.energy_j === energy_j && plan.budget.delay_s === delay_s;
  }

  async save(path, name) {
    try {
      const target = { scenario_id: this.scenario.scenario_id, ...this.budgets.value };
      const file = await post(path, path === "plan/file" ? { ...target, tolerance: PRECISE } : target);
      download(name, `${JSON.stringify(file, null, 1)}\n`, "application/json");
      say(`${name} was saved. Check it with: pretune check plan.json scenario.json`);
    } catch (error) {
      this.notice(error);
    }
  }

  async run() {
    at("start-run").disabled = true;
    try {
      const run = await post("runs", { scenario_id: this.scenario.scenario_id, ...this.budgets.value, ...steering() });
      this.go(`#/runs/${run.id}`);
    } catch (error) {
      this.notice(error);
    } finally {
      at("start-run").disabled = false;
    }
  }
}

const steering = () => ({ control: at("run-control").value, replan: at("run-replan").value, outage: Number(at("run-outage").value) / 100 });

function address(plan) {
  return `#/plan/${plan.scenario_id}?energy=${plan.budget.energy_j}&delay=${plan.budget.delay_s}`;
}
