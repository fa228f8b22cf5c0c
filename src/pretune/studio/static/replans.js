// What a steered run planned anew: the table, and where it stands in the charts.

import { h, table } from "./dom.js";
import { count, joules, plural, seconds, significant } from "./words.js";

const MOST_ROWS = 300, MOST_MARKS = 40;
const REPLANS = { off: "nothing is planned anew", auto: "what is left is planned anew when there is a reason", every: "what is left is planned anew after every round" };

/** Those known with those that came: what came takes the place of all from its first number on. */
export function merged(known, came) {
  return came.length ? [...known.filter((one) => one.number < came[0].number), ...came].slice(-MOST_ROWS) : known;
}

/** How a run is steered, in words; empty if its plan is carried out as it is. */
export function steeringWords(steering) {
  if (!steering) return "";
  const clocks = steering.control === "rounds" ? "Clocks and powers are chosen anew in every round" : "Clocks and powers are the plan's in every round";
  const left = steering.outage > 0 ? `; each device is left out in the ${significant(100 * steering.outage, 3)} % of the rounds in which its channel is worst` : "";
  return `${clocks}; ${REPLANS[steering.replan]}${left}.`;
}

/** The rounds of a run, as planned at first or as its last new plan has them. */
export function roundsPlanned(run, replans) {
  const last = replans.at(-1);
  return run.rounds_planned && last ? { pretrain: last.after_pretrain + last.rounds_after.pretrain, finetune: last.after_finetune + last.rounds_after.finetune } : run.rounds_planned;
}

/** Where plans that were taken stand along a column of the records: at the last record before them. */
export function eventsOf(replans, records, key) {
  const found = [], taken = replans.filter((one) => one.taken).slice(-MOST_MARKS);
  for (const one of taken) {
    const [stage, round] = one.after_finetune > 0 ? ["finetune", one.after_finetune] : one.after_pretrain > 0 ? ["pretrain", one.after_pretrain] : ["start", 0];
    for (let i = records.stage.length - 1; i >= 0; i--) {
      if (records.stage[i] === stage && records.round[i] <= round) {
        found.push(records[key][i]);
        break;
      }
    }
  }
  return found;
}

const change = (before, after) => (before === after ? before : `${before} → ${after}`);
const rounds = ({ pretrain, finetune }) => `${count(pretrain)} + ${count(finetune)}`;
const bound = (value) => (value === null ? "does not fit" : significant(value));
const estimate = (one) => (one === undefined || one === null || one.ratio === null ? "-" : `${significant(one.ratio, 2)} (${significant(one.low, 2)} to ${significant(one.high, 2)})`);

/** The newest first. */
export function replansTable(replans) {
  if (replans.length === 0) return h("p", { class: "muted", id: "replans" }, "Nothing was planned anew yet.");
  const estimated = replans.some((one) => one.constants !== null);
  const heads = ["After rounds", "Cause", "Taken", ["Rounds left", "r"], ["Samples a round", "r"], ["Criterion", "r"], ["Energy left", "r"], ["Time left", "r"]];
  if (estimated) heads.push(["Variance, server", "r"], ["Variance, devices", "r"]);
  const taken = replans.filter((one) => one.taken).length;
  return h("div", { id: "replans" },
    h("p", { class: "note" }, `${plural(replans.length, "new plan")}${replans[0].number > 1 ? " (the last ones)" : ""}, ${count(taken)} taken.`,
      estimated ? " Variances: of a sample's gradient as the run finds them, over the scenario's, with 95% intervals." : ""),
    table("What was planned anew, the newest first", heads, [...replans].reverse().map((one) => [
      `${count(one.after_pretrain)} + ${count(one.after_finetune)}`, one.cause, one.taken ? "yes" : one.effect,
      change(rounds(one.rounds_before), rounds(one.rounds_after)), change(count(one.batch_before), count(one.batch_after)),
      change(bound(one.objective_before), bound(one.objective_after)), joules(one.energy_left_j), seconds(one.delay_left_s),
      ...(estimated ? [estimate(one.constants?.server), estimate(one.constants?.devices)] : []),
    ]), { tall: true }));
}
