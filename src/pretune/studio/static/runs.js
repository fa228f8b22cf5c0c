// The runs' page: all of them, one while it goes on, two side by side.

import { get, post } from "./api.js";
import { at, h, put, say, table } from "./dom.js";
import { drawBoth } from "./run_pair.js";
import { RunView, figures, stateOf } from "./run_view.js";
import { moment, plural } from "./words.js";

const AGAIN_MS = 2000;

/** Shows one of three: the list, a run (`parts` = [id]), or two (`parts` = [a, "with", b]). */
export class Runs {
  constructor({ notice, go }) {
    Object.assign(this, { notice, go, timer: 0, turn: 0, view: null, chosen: new Set(), status: {} });
    this.place = at("view-runs");
  }

  begin(status) { this.status = status; }

  /** Stops following; the runs themselves go on. */
  leave() {
    this.turn += 1;
    clearTimeout(this.timer);
    this.view?.close();
    this.view = null;
  }

  async show([id, with_, other]) {
    this.leave();
    const { turn } = this;
    try {
      if (!id) await this.list(turn);
      else if (with_ === "with" && other) {
        const both = await get(`runs/compare?a=${encodeURIComponent(id)}&b=${encodeURIComponent(other)}`);
        if (turn === this.turn) drawBoth(this.place, both);
      } else {
        this.view = new RunView(this.place, id, this);
        await this.view.open();
      }
    } catch (error) {
      if (turn !== this.turn) return;
      this.notice(error);
      if (id) put(this.place, card(h("p", {}, h("a", { href: "#/runs" }, "All runs"))));
    }
  }

  async list(turn) {
    const { runs } = await get("runs");
    if (turn !== this.turn) return;
    this.drawList(runs);
    // Again and again: runs may also be started elsewhere, and end.
    this.timer = setTimeout(() => this.list(turn).catch(() => {}), AGAIN_MS);
  }

  drawList(runs) {
    const text = JSON.stringify(runs) + [...this.chosen];
    if (text === this.drawn && this.place.querySelector("#run-list")) return;
    this.drawn = text;
    const focused = document.activeElement?.id;
    const known = new Set(runs.map((run) => run.id));
    for (const id of this.chosen) if (!known.has(id)) this.chosen.delete(id);
    const pair = [...this.chosen];
    put(this.place, h("section", { id: "run-list", "aria-labelledby": "h-runs" },
      h("h1", { id: "h-runs" }, "Runs"),
      h("p", { class: "note" }, runs.length === 0 ? "None yet. Start one from the page that plans." : `${plural(runs.length, "run")} in the studio's folder, the newest first. Choose two to see them side by side. Runs go on when this page is closed.`),
      h("p", { class: "buttons" }, h("button", { type: "button", id: "compare-two", class: "main", disabled: pair.length !== 2, onclick: () => this.go(`#/runs/${pair[0]}/with/${pair[1]}`) }, "Compare two")),
      runs.length === 0 ? null : table("All runs", ["", "Scenario", "Started", "State", ["Rounds", "r"], ["Energy", "r"], ["Time", "r"], ["Test loss", "r"], ["Accuracy", "r"]],
        runs.map((run) => {
          const said = figures(run);
          return [run.kind === "run" ? h("input", { type: "checkbox", id: `choose-${run.id}`, checked: this.chosen.has(run.id), disabled: pair.length >= 2 && !this.chosen.has(run.id), "aria-label": `Choose ${run.name}, ${moment(run.created)}`,
            onchange: (event) => { if (event.target.checked) this.chosen.add(run.id); else this.chosen.delete(run.id); this.drawList(runs); } }) : "",
          h("a", { href: `#/runs/${run.id}`, id: `run-${run.id}` }, run.kind === "calibration" ? `${run.name} (calibration)` : run.name), moment(run.created), stateOf(run), said.rounds, said.energy, said.time, said.loss, said.accuracy];
        }))));
    if (focused) document.getElementById(focused)?.focus();
  }

  /** Starts, cancels or resumes, then says so. */
  async act(path, said) {
    try {
      const run = await post(path);
      say(said);
      return run;
    } catch (error) {
      this.notice(error);
      return null;
    }
  }
}

const card = (...children) => h("section", {}, children);
