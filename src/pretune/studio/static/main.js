// Begins here: which page is shown, what went wrong, and the token if one is asked for.

import { get, login, whenLocked } from "./api.js";
import { token } from "./dialogs.js";
import { at, h, put, say } from "./dom.js";
import { Planner } from "./planner.js";
import { Runs } from "./runs.js";

const VIEWS = ["plan", "runs"];

function notice(error, about = "") {
  if (error.status === 401) return;
  const lines = error.problems ?? [error.message ?? String(error)];
  put(at("notice"), h("div", {}, about ? h("b", {}, `${about}: `) : null, lines.length > 1 ? h("ul", { class: "plain" }, lines.map((line) => h("li", {}, line))) : lines[0]),
    h("button", { type: "button", onclick: quiet }, "Close"));
  at("notice").hidden = false;
}

function quiet() {
  at("notice").hidden = true;
}

/** What the address says: {view, parts, query}. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...parts] = path.split("/");
  return { view: VIEWS.includes(view) ? view : "plan", parts, query: new URLSearchParams(query) };
}

const go = (hash) => { location.hash = hash; };
const planner = new Planner({ notice, go, quiet });
const runs = new Runs({ notice, go });

function show() {
  const { view, parts } = place();
  for (const one of VIEWS) {
    at(`view-${one}`).hidden = one !== view;
    at(`nav-${one}`).toggleAttribute("aria-current", one === view);
    if (one === view) at(`nav-${one}`).setAttribute("aria-current", "page");
  }
  at("nav-runs").href = "#/runs";
  document.title = `${view === "runs" ? "Runs" : "Plan"} · pretune studio`;
  if (view === "runs") runs.show(parts);
  else runs.leave();
}

/** What the address of a plan asks for: a scenario by its id, and budgets if it has some. */
function wanted() {
  const { view, parts, query } = place();
  const budget = { energy_j: Number(query.get("energy")), delay_s: Number(query.get("delay")) };
  return view === "plan" && parts[0] ? { scenario_id: parts[0], budget: budget.energy_j > 0 && budget.delay_s > 0 ? budget : null } : null;
}

async function begin() {
  const status = await get("status");
  at("version").textContent = `pretune ${status.version}`;
  if (!status.ready) say("The solver is being compiled; the first plan may take a minute.");
  runs.begin(status);
  show();
  await planner.begin(status, wanted());
}

whenLocked(() => token(async (given) => {
  await login(given);
  location.reload();
}));
addEventListener("hashchange", () => {
  show();
  planner.visit(wanted());
});
begin().catch((error) => notice(error));
