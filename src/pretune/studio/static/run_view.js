// One run, watched while it goes on: what it learns, and planned against realised.

import { follow, get } from "./api.js";
import { chart } from "./chart.js";
import { h, onFrame, put, say, table } from "./dom.js";
import { eventsOf, merged, replansTable, roundsPlanned, steeringWords } from "./replans.js";
import { count, joules, moment, percent, seconds, significant } from "./words.js";

const KEYS = ["stage", "round", "loss", "test_loss", "test_accuracy", "planned_s", "planned_j", "realised_s", "realised_j"];
const STATES = { planning: "running", running: "running", finished: "done", failed: "failed", diverged: "failed", infeasible: "failed" };
const STAGES = { start: "Before training", pretrain: "Pre-training", finetune: "Fine-tuning", total: "Whole run" };
export const GOING_ON = ["planning", "running"];

/** The state of a run as a pill. */
export const stateOf = (run) => h("span", { class: `state ${STATES[run.status] ?? ""}` }, run.status);

/** What a list says of a run. */
export function figures(run) {
  const done = run.rounds_done;
  return {
    rounds: done ? `${count(done.pretrain)} + ${count(done.finetune)}` : "",
    energy: run.realised ? joules(run.realised.energy_j) : "", time: run.realised ? seconds(run.realised.delay_s) : "",
    loss: run.test_loss === null ? "" : significant(run.test_loss), accuracy: run.test_accuracy === null ? "" : percent(run.test_accuracy),
  };
}

/** Empty columns of a ledger. */
export const noRecords = () => Object.fromEntries(KEYS.map((key) => [key, []]));

/** An axis of simulated time, or of energy, in the unit that reads best. */
export function timeAxis(most) {
  const [name, divide] = most < 300 ? ["s", 1] : most < 10_800 ? ["min", 60] : ["h", 3600];
  return { label: `simulated time (${name})`, divide, fromZero: true };
}

export function energyAxis(most, label = "energy spent") {
  const [divide, name] = [[1e6, "MJ"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"]].find(([one]) => most >= 2 * one) ?? [1, "J"];
  return { label: `${label} (${name})`, divide, fromZero: true };
}

export const maximum = (values) => values.reduce((most, value) => (value > most ? value : most), 0);

/** A run in the given place; `owner` is the runs' page. */
export class RunView {
  constructor(place, id, owner) {
    Object.assign(this, { place, id, owner, records: noRecords(), run: null, planned: null, stages: [], replans: [], abort: new AbortController() });
  }

  close() { this.abort.abort(); }

  /** Shows the run and follows it until it ends; what was before the page was opened comes first. */
  async open() {
    const { signal } = this.abort;
    this.run = await get(`runs/${this.id}`, signal);
    this.build();
    this.draw();
    if (this.run.kind === "calibration") {
      await this.calibration(signal);
      return;
    }
    follow(`runs/${this.id}/events`, (event, data) => this.take(event, data), signal).catch((error) => this.owner.notice(error));
  }

  take(event, data) {
    if (event === "records") for (const key of KEYS) this.records[key].push(...data[key]);
    else if (event === "replans") this.anew(data.replans);
    else if (event === "reset") this.records = noRecords();
    else if (event === "status") this.changed(data);
    onFrame("run", () => this.draw());
    if (event === "end") {
      this.finish();
      return "end";
    }
    return "go on";
  }

  /** More of what was planned anew. */
  anew(replans) {
    this.replans = merged(this.replans, replans);
    const last = this.replans.at(-1);
    if (last) say(`Planned anew: ${last.cause}. ${last.taken ? "Taken" : "Not taken"}.`);
  }

  async changed(run) {
    const before = this.run.status;
    this.run = { ...this.run, ...Object.fromEntries(Object.entries(run).filter(([, value]) => value !== null)) };
    if (before !== run.status) say(`The run is ${run.status}.`);
    if (this.run.rounds_planned === null && run.status !== "planning") {
      const detail = await get(`runs/${this.id}`, this.abort.signal).catch(() => null);
      if (detail) this.run = { ...detail, status: this.run.status };
      onFrame("run", () => this.draw());
    }
  }

  async finish() {
    try {
      const result = await get(`runs/${this.id}/result`, this.abort.signal);
      this.run = result.run;
      this.stages = result.stages;
      say(`The run is ${this.run.status}.`);
    } catch {
      this.run = await get(`runs/${this.id}`, this.abort.signal).catch(() => this.run);
    }
    onFrame("run", () => this.draw());
  }

  async calibration(signal) {
    while (!signal.aborted && GOING_ON.includes(this.run.status)) {
      await new Promise((done) => setTimeout(done, 1000));
      this.run = await get(`runs/${this.id}`, signal);
      this.draw();
    }
    if (signal.aborted || this.run.status !== "finished") return;
    const result = await get(`runs/${this.id}/result`, signal);
    const figure = (value) => (typeof value === "number" ? significant(value) : Array.isArray(value) ? `${significant(Math.min(...value), 3)} to ${significant(Math.max(...value), 3)}` : "");
    const measured = Object.entries(result.calibration?.measured ?? {}).filter(([, one]) => one !== null && typeof one === "object" && "value" in one);
    put(this.charts);
    put(this.totals, h("section", { "aria-labelledby": "h-measured" }, h("h2", { id: "h-measured" }, "What was measured"),
      table("Constants and their 95% intervals", ["Constant", ["Value", "r"], ["from", "r"], ["to", "r"]], measured.map(([name, one]) => [name.replaceAll("_", " "), figure(one.value), figure(one.low), figure(one.high)])),
      h("ul", { class: "plain" }, [...(result.calibration?.kept ?? []), ...(result.calibration?.notes ?? [])].map((line) => h("li", {}, line))),
      h("p", { class: "buttons" }, h("a", { class: "button", href: `#/plan/${result.scenario_id}` }, "Plan with what was measured"))));
  }

  build() {
    this.head = h("div", {});
    this.charts = h("div", { class: "charts" });
    this.totals = h("div", {});
    this.steered = h("div", {});
    this.actions = h("p", { class: "buttons" });
    put(this.place,
      h("header", {}, h("p", { class: "kicker" }, h("a", { href: "#/runs" }, "All runs"), ` · ${this.run.kind}, started ${moment(this.run.created)}`),
        h("h1", {}, this.run.name), this.head, this.actions),
      this.run.kind === "run" ? h("section", { "aria-labelledby": "h-live" }, h("h2", { id: "h-live" }, "What it learns, and what it costs"), this.charts) : null,
      this.steered, this.totals);
  }

  draw() {
    const { run, records } = this, last = records.stage.length - 1;
    const planned = roundsPlanned(run, this.replans), done = this.done();
    const share = planned ? (done.pretrain + done.finetune) / Math.max(planned.pretrain + planned.finetune, 1) : 0;
    const of = (stage) => (planned ? `${count(done[stage])} of ${count(planned[stage])}` : count(done[stage]));
    const tile = (name, value, note) => h("li", {}, h("span", { class: "tile-name" }, name), h("span", { class: "tile-value" }, value), h("span", { class: "tile-note" }, note));
    const spent = last >= 0 ? { energy_j: records.realised_j[last], delay_s: records.realised_s[last] } : run.realised;
    const tested = (key) => { for (let i = last; i >= 0; i--) if (records[key][i] !== null) return records[key][i]; return run[key]; };
    put(this.head, h("p", { class: "lead", id: "run-state", data: { state: run.status } }, stateOf(run), " ", run.message),
      h("div", { class: "progress", role: "progressbar", "aria-label": "Rounds done", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * share)) },
        h("span", { class: "part pre", style: { width: `${planned ? 100 * done.pretrain / Math.max(planned.pretrain + planned.finetune, 1) : 0}%` } }),
        h("span", { class: "part fine", style: { width: `${planned ? 100 * done.finetune / Math.max(planned.pretrain + planned.finetune, 1) : 0}%` } })),
      run.kind === "calibration" ? null : h("ul", { class: "tiles" },
        tile("Rounds", `${count(done.pretrain)} + ${count(done.finetune)}`, `pre-training ${of("pretrain")}, fine-tuning ${of("finetune")}`),
        tile("Test accuracy", percent(tested("test_accuracy")), `test loss ${significant(tested("test_loss"))}`),
        tile("Energy", joules(spent?.energy_j ?? 0), run.budget ? `${percent((spent?.energy_j ?? 0) / run.budget.energy_j)} of ${joules(run.budget.energy_j)}` : ""),
        tile("Time", seconds(spent?.delay_s ?? 0), run.budget ? `${percent((spent?.delay_s ?? 0) / run.budget.delay_s)} of ${seconds(run.budget.delay_s)}` : "")));
    this.drawActions();
    if (run.kind === "calibration") return;
    const figures = this.figures();
    this.drawSteered();
    put(this.charts, figures.length ? figures : h("p", { class: "muted" }, GOING_ON.includes(run.status) ? "The first round is on its way." : "No round was recorded."));
    if (this.stages.length) {
      put(this.totals, h("section", { "aria-labelledby": "h-totals" }, h("h2", { id: "h-totals" }, "Planned against realised"),
        table("Planned against realised by stage", ["Stage", ["Rounds", "r"], ["Time planned", "r"], ["realised", "r"], ["Energy planned", "r"], ["realised", "r"], ["Test loss", "r"], ["Test accuracy", "r"]],
          this.stages.map((one) => [STAGES[one.stage] ?? one.stage, count(one.rounds), seconds(one.planned_s, 5), seconds(one.realised_s, 5), joules(one.planned_j, 5), joules(one.realised_j, 5), significant(one.test_loss), percent(one.test_accuracy)]))));
    }
  }

  /** Drawn again only where there is something new, so that a reader keeps the place in the table. */
  drawSteered() {
    const { run, replans } = this, words = steeringWords(run.steering);
    const wanted = JSON.stringify([run.steering, replans.length, replans.at(-1)?.number]);
    if (!words || wanted === this.drawnSteered) return;
    this.drawnSteered = wanted;
    put(this.steered, h("section", { "aria-labelledby": "h-steered" }, h("h2", { id: "h-steered" }, "How it is steered"),
      h("p", { class: "note" }, words), run.steering.replan === "off" ? null : replansTable(replans)));
  }

  drawActions() {
    const { run } = this, wanted = [run.can_cancel && GOING_ON.includes(run.status), run.can_resume, this.records.stage.length > 0].join();
    if (wanted === this.shown) return;
    this.shown = wanted;
    const [cancel, resume, report] = wanted.split(",").map((one) => one === "true");
    const act = async (path, said) => {
      const found = await this.owner.act(`runs/${this.id}/${path}`, said);
      if (found && path === "resume") this.owner.show([this.id]);
    };
    put(this.actions,
      cancel ? h("button", { type: "button", id: "cancel-run", onclick: () => act("cancel", "The run ends after the round it is in.") }, "Cancel") : null,
      resume ? h("button", { type: "button", id: "resume-run", class: "main", onclick: () => act("resume", "The run goes on.") }, "Resume") : null,
      report && run.kind === "run" ? h("a", { class: "button", href: `api/v1/runs/${this.id}/report`, target: "_blank", rel: "noopener" }, "Report") : null,
      run.scenario_id ? h("a", { class: "button", href: `#/plan/${run.scenario_id}` }, "Its scenario") : null);
  }

  /** Rounds of either stage so far: the last record of each says so. */
  done() {
    const { records, run } = this, done = { pretrain: 0, finetune: 0 };
    for (let i = records.stage.length - 1; i >= 0; i--) {
      const stage = records.stage[i];
      if (stage in done && done[stage] === 0) done[stage] = records.round[i];
      if (stage === "pretrain") break;
    }
    return records.stage.length || run.rounds_done === null ? done : run.rounds_done;
  }

  figures() {
    const { records, run } = this, size = records.stage.length;
    if (size === 0) return [];
    const rows = Array.from({ length: size }, (_, i) => i), pick = (key, on) => on.map((i) => records[key][i]);
    const [pre, fine] = ["pretrain", "finetune"].map((stage) => rows.filter((i) => records.stage[i] === stage));
    const time = timeAxis(maximum(records.realised_s)), end = (on) => (on.length ? records.realised_s[on.at(-1)] : 0);
    const bands = [{ label: "Pre-training", colour: "pre", start: 0, end: end(pre) }, { label: "Fine-tuning", colour: "fine", start: end(pre), end: end(fine) }];
    const number = rows.map((_, i) => i);
    const ways = (key) => [
      { label: "realised", colour: key === "j" ? "up" : "down", x: number, y: records[`realised_${key}`] },
      { label: "planned", colour: "ink", style: "dashed", x: number, y: records[`planned_${key}`] },
    ];
    const budget = run.budget ?? { energy_j: NaN, delay_s: NaN };
    const thinned = size > 1 && records.round.some((round, i) => i > 0 && records.stage[i] === records.stage[i - 1] && round - records.round[i - 1] > 1);
    const label = thinned ? "recorded rounds, both stages" : "round, both stages counted";
    const events = { label: "planned anew", at: eventsOf(this.replans, records, "realised_s") };
    const after = { label: "planned anew", at: eventsOf(this.replans, { ...records, number }, "number") };
    return [
      chart("Accuracy on the test set", [{ label: "test accuracy", colour: "ink", style: "dots", x: records.realised_s, y: records.test_accuracy }], time, { label: "accuracy", percent: true, fromZero: true }, { bands, events }),
      chart("Loss", [
        { label: "pre-training batches", colour: "pre", style: "noisy", x: pick("realised_s", pre), y: pick("loss", pre) },
        { label: "fine-tuning batches", colour: "fine", style: "noisy", x: pick("realised_s", fine), y: pick("loss", fine) },
        { label: "test loss", colour: "ink", style: "dots", x: records.realised_s, y: records.test_loss },
      ], time, { label: "loss", fromZero: true }, { bands, events }),
      chart("Energy, planned against realised", ways("j"), { label, fromZero: true }, energyAxis(maximum(records.realised_j), "energy"), { rules: rule(budget.energy_j, records.realised_j, "energy budget"), events: after }),
      chart("Time, planned against realised", ways("s"), { label, fromZero: true }, timeAxis(maximum(records.realised_s)), { rules: rule(budget.delay_s, records.realised_s, "delay budget"), events: after }),
    ].filter(Boolean);
  }
}

/** A budget's line, once the run is near enough for it to be worth the room. */
const rule = (at, spent, label) => (maximum(spent) > 0.4 * at ? [{ label, axis: "y", at }] : []);
