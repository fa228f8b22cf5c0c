// Windows above the page: paste a scenario, read a fleet from CSV, give the token.

import { at, h, put } from "./dom.js";

/** Opens a window; `build(close)` gives its children. The keyboard goes into it, and back when it closes. */
export function open(title, build, { closable = true } = {}) {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
  const close = () => dialog.close();
  put(dialog, h("h2", { id: "dialog-title" }, title), build(close, dialog));
  dialog.addEventListener("close", () => dialog.remove());
  if (!closable) dialog.addEventListener("cancel", (event) => event.preventDefault());
  at("dialogs").append(dialog);
  dialog.showModal();
  return dialog;
}

/** The lines of a refusal as text under what was typed. */
export function problems(error) {
  return error.problems.length > 1 ? h("ul", {}, error.problems.map((line) => h("li", {}, line))) : error.message;
}

function bottom(close, label, go) {
  const bad = h("div", { class: "bad", role: "alert" });
  const main = h("button", { type: "button", class: "main", onclick: async () => {
    main.disabled = true;
    try {
      await go();
      close();
    } catch (error) {
      put(bad, error.problems ? problems(error) : String(error.message ?? error));
    } finally {
      main.disabled = false;
    }
  } }, label);
  return [bad, h("p", { class: "buttons" }, main, h("button", { type: "button", onclick: close }, "Cancel"))];
}

/** Which format a text is in, by a file's name or by how it begins. */
export function formatOf(name, text) {
  const end = /\.(ya?ml|toml|json)$/i.exec(name)?.[1].toLowerCase();
  if (end) return end === "yml" ? "yaml" : end;
  if (text.trimStart().startsWith("{")) return "json";
  return /^\s*\[[\w.[\]]+\]\s*$/m.test(text) && /^\s*\w+\s*=/m.test(text) ? "toml" : "yaml";
}

/** Paste a scenario. */
export function paste(load) {
  open("Paste a scenario", (close) => {
    const text = h("textarea", { class: "code", id: "paste-text", rows: "14", spellcheck: "false", "aria-label": "Scenario: YAML, TOML or JSON" });
    return [h("p", { class: "note" }, "YAML, TOML or JSON, as in a scenario file."), text,
      bottom(close, "Load", () => load({ text: text.value, format: formatOf("", text.value) }))];
  });
}

/** Asks for the token; nothing else works before it is right. */
export function token(log) {
  if (document.querySelector("dialog.token")) return;
  const dialog = open("This studio asks for a token", (close) => {
    const field = h("input", { type: "password", id: "token", autocomplete: "current-password", "aria-label": "Token" });
    const bad = h("p", { class: "bad", role: "alert" });
    const form = h("form", { onsubmit: async (event) => {
      event.preventDefault();
      try {
        await log(field.value.trim());
        close();
      } catch (error) {
        bad.textContent = error.message;
      }
    } }, h("p", { class: "note" }, "The terminal that started the studio shows it."), field, bad,
    h("p", { class: "buttons" }, h("button", { type: "submit", class: "main" }, "Log in")));
    return form;
  }, { closable: false });
  dialog.classList.add("token");
}

/** Measures the constants of convergence on the scenario's model and data; `start` gets what is asked for. */
export function calibrate(start) {
  open("Measure the constants", (close) => {
    const time = h("input", { type: "number", id: "calibrate-seconds", min: "1", max: "3600", value: "60" });
    const all = h("input", { type: "checkbox", id: "calibrate-all" });
    return [h("p", { class: "note" }, "Trains a little on the scenario's own model and data, and measures variances, smoothness, the shift and the rest, with 95% intervals. What it finds is a new scenario."),
      h("label", { class: "row", for: "calibrate-seconds" }, "Seconds, at most", time), h("p", {}, h("label", { for: "calibrate-all" }, all, " Replace values that were set by hand, too")),
      bottom(close, "Measure", () => start({ seconds: Number(time.value), overwrite: all.checked }))];
  });
}

/** Reads a fleet from CSV: which column is which key, in which unit. `columns` are those of the present fleet. */
export function fleet(columns, load) {
  open("Fleet from CSV", (close) => {
    const file = h("input", { type: "file", accept: ".csv,text/csv", "aria-label": "CSV file", onchange: async () => {
      if (file.files.length) text.value = await file.files[0].text();
      headings();
    } });
    const text = h("textarea", { class: "code", rows: "8", spellcheck: "false", "aria-label": "CSV text", oninput: () => headings() });
    const mapping = h("div", {});
    const keys = ["name", ...columns.map((column) => column.key)];
    let rows = [];
    const headings = () => {
      const names = cells(text.value.split(/\r?\n/, 1)[0] ?? "").map((one) => one.trim()).filter(Boolean);
      rows = names.map((name) => {
        const guess = keys.find((one) => one === name) ?? keys.find((one) => plain(one) === plain(name)) ?? "";
        const select = h("select", { "aria-label": `Key of column ${name}` }, h("option", { value: "" }, "leave out"), keys.map((one) => h("option", { value: one, selected: one === guess }, one)));
        const unit = h("input", { type: "text", "aria-label": `Unit of column ${name}`, placeholder: "SI" });
        return { name, select, unit };
      });
      put(mapping, rows.length === 0 ? null : h("table", {}, h("caption", { class: "hidden" }, "What the columns are"),
        h("thead", {}, h("tr", {}, ["Column", "is the device's", "in the unit"].map((one) => h("th", { scope: "col" }, one)))),
        h("tbody", {}, rows.map((row) => h("tr", {}, h("td", {}, row.name), h("td", {}, row.select), h("td", {}, row.unit))))));
    };
    return [h("p", { class: "note" }, "A line of column names, then a line for each device. The rest of the scenario stays."),
      file, text, mapping,
      bottom(close, "Use this fleet", () => {
        const used = rows.filter((row) => row.select.value);
        const chosen = Object.fromEntries(used.map((row) => [row.name, { key: row.select.value, unit: row.unit.value.trim() || null }]));
        return load({ csv: text.value, columns: chosen });
      })];
  });
}

const plain = (text) => text.toLowerCase().replace(/_(hz|w|j|s)$/, "").replace(/[^a-z0-9]/g, "");

function cells(line) {
  const found = [];
  for (const match of line.matchAll(/("(?:[^"]|"")*"|[^,;\t]*)(?:[,;\t]|$)/g)) found.push(match[1].replace(/^"|"$/g, "").replaceAll('""', '"'));
  return found;
}
