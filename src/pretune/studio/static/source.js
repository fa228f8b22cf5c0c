// The scenario: where it comes from, and its values with units, field by field or as text.

import { calibrate, fleet, formatOf, paste, problems } from "./dialogs.js";
import { at, h, put, say } from "./dom.js";
import { textOf } from "./scenario_text.js";

const GROUPS = { workload: "Workload", server: "Server", radio: "Radio", convergence: "Convergence" };
const LARGE = 500;

/** The card with the scenario; `read(request)` asks for another one, and refuses with an error that names a field. */
export class Source {
  constructor(read) {
    this.read = read;
    this.scenario = null;
    this.before = [];
    at("example").addEventListener("change", () => this.take({ example: at("example").value }));
    at("open-file").addEventListener("click", () => at("file").click());
    at("file").addEventListener("change", async () => {
      const [file] = at("file").files;
      if (file) await this.take({ text: await file.text(), format: formatOf(file.name, "") }, file.name);
      at("file").value = "";
    });
    at("open-paste").addEventListener("click", () => paste((request) => this.read(request)));
    at("open-fleet").addEventListener("click", () => fleet(this.scenario.devices.columns, (csv) => this.read({ scenario_id: this.scenario.scenario_id, fleet: csv })));
    at("to-source").addEventListener("click", () => {
      at("h-source").scrollIntoView();
      at("example").focus({ preventScroll: true });
    });
    at("undo").addEventListener("click", () => this.undo());
    at("apply-text").addEventListener("click", () => this.applyText());
    at("text").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.applyText(); });
    this.tabs();
  }

  tabs() {
    const tabs = [at("tab-fields"), at("tab-text")];
    const choose = (chosen) => tabs.forEach((tab) => {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      at(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    });
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => choose(tab));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        choose(tabs[1 - i]);
        tabs[1 - i].focus();
      });
    });
  }

  /** The examples to choose from. */
  offer(examples) {
    put(at("example"), h("option", { value: "", disabled: true, selected: true }, "choose one"),
      examples.map((one) => h("option", { value: one.name, title: one.description }, `${one.title} (${one.devices})`)));
  }

  /** Shows a scenario that was read. */
  show(scenario, { back = false } = {}) {
    if (this.scenario && !back && this.scenario.scenario_id !== scenario.scenario_id) this.before.push(this.scenario.scenario_id);
    this.scenario = scenario;
    at("undo").disabled = this.before.length === 0;
    at("scenario-words").textContent = scenario.words;
    this.fields(scenario);
    const large = scenario.devices.count > LARGE;
    at("text").value = large ? `# ${scenario.devices.count} devices are too many for a text to edit: change values on the other page,\n# or the fleet from CSV.\n` : textOf(scenario.tree, scenario.fields);
    at("text").readOnly = large;
    at("apply-text").disabled = large;
    this.textBad(null);
    put(at("defaults"), [...scenario.warnings, ...scenario.defaults].map((line) => h("li", {}, line)));
  }

  fields(scenario) {
    const opened = new Set([...at("panel-fields").querySelectorAll("details[open]")].map((one) => one.dataset.group));
    const focused = document.activeElement?.dataset?.path;
    put(at("panel-fields"), Object.entries(GROUPS).map(([section, title]) =>
      h("details", { class: "group", data: { group: section }, open: opened.has(section) }, h("summary", {}, title),
        scenario.fields.filter((field) => field.section === section).map((field) => this.field(field)),
        section === "convergence" && scenario.can_run ? h("p", { class: "buttons" }, h("button", { type: "button", id: "calibrate", onclick: () => calibrate((wanted) => this.measure(wanted)) }, "Measure these")) : null)),
    h("details", { class: "group", data: { group: "devices" }, open: opened.has("devices") }, h("summary", {}, `Devices (${scenario.devices.count})`),
      h("dl", { class: "facts" }, scenario.devices.columns.map((column) => h("div", {}, h("dt", { title: column.description }, column.key), h("dd", {}, column.words || "none")))),
      h("p", { class: "note" }, "Single devices are edited in the text, or all of them from CSV.")));
    if (focused) at("panel-fields").querySelector(`[data-path="${CSS.escape(focused)}"]`)?.focus();
  }

  field(field) {
    const id = `field-${field.path}`, bad = `${id}-bad`;
    const common = { id, data: { path: field.path }, "aria-describedby": bad, title: field.should };
    const long = Array.isArray(field.value) || (field.value !== null && typeof field.value === "object");
    const input = field.choices
      ? h("select", common, field.optional && !field.text ? h("option", { value: "" }, "") : null, field.choices.map((one) => h("option", { value: one, selected: one === field.text }, one)))
      : h("input", { type: "text", ...common, value: field.text, readonly: long, placeholder: field.optional ? "none" : "", spellcheck: "false", autocomplete: "off" });
    input.addEventListener("change", () => this.change(field, input));
    return h("div", { class: "field" }, h("label", { for: id, title: field.description }, named(field)), input, h("p", { class: "bad", id: bad, hidden: true }));
  }

  async change(field, input) {
    const bad = at(`field-${field.path}-bad`);
    const typed = input.value.trim();
    try {
      await this.read({ scenario_id: this.scenario.scenario_id, changes: { [field.path]: typed === "" ? null : plain(typed) } });
    } catch (error) {
      const lines = error.problems ?? [String(error)];
      bad.textContent = lines.find((line) => line.startsWith(field.path)) ?? lines[0];
      bad.hidden = false;
      input.setAttribute("aria-invalid", "true");
      say(bad.textContent);
      return;
    }
    bad.hidden = true;
    input.setAttribute("aria-invalid", "false");
  }

  async take(request, name = "") {
    try {
      await this.read(request);
    } catch (error) {
      this.refused(error, name);
    }
  }

  async undo() {
    const scenario_id = this.before.pop();
    if (scenario_id) await this.read({ scenario_id }, { back: true }).catch((error) => this.refused(error));
  }

  async applyText() {
    const text = at("text").value;
    try {
      await this.read({ text, format: formatOf("", text) });
      say("The scenario was read.");
    } catch (error) {
      this.textBad(error);
    }
  }

  textBad(error) {
    put(at("text-bad"), error ? problems(error) : null);
    at("text-bad").hidden = !error;
    at("text").setAttribute("aria-invalid", String(Boolean(error)));
  }

  /** Replaced by the page: measures the constants in a run of its own. */
  measure() {}

  /** Replaced by the page: shows a refusal where everybody sees it. */
  refused(error) { throw error; }
}

/** A field's name as people say it; the unit is in the value. */
function named(field) {
  const words = field.key.replace(/_(hz|w|j|s|w_per_hz)$/, "").replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

/** A number, true or false as such, all else as text. */
function plain(typed) {
  if (typed === "true" || typed === "false") return typed === "true";
  return typed !== "" && Number.isFinite(Number(typed)) ? Number(typed) : typed;
}
