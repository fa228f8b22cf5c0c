// Elements from code: text is always text, never markup, and styles go through the object model, as the policy asks.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; `on…` keys are listeners, `data` and `style` mappings, all else attributes (false: left out). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "value" || key === "checked" || key === "selected") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** Puts these children in place of what an element holds. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Runs the last function given for a key, once, before the next frame is painted. */
export const onFrame = (() => {
  const waiting = new Map();
  return (key, draw) => {
    if (waiting.size === 0) {
      requestAnimationFrame(() => {
        const draws = [...waiting.values()];
        waiting.clear();
        for (const each of draws) each();
      });
    }
    waiting.set(key, draw);
  };
})();

/** Says something to those who listen to the page. */
export function say(text) {
  const line = at("live");
  if (line.textContent !== text) line.textContent = text;
}

/** Offers a text as a file. */
export function download(name, text, type = "application/octet-stream") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A table with a caption; `heads` are texts or [text, "r"], rows are arrays of cells (texts, nodes, or {…} of `cell`). */
export function table(caption, heads, rows, { tall = false, shown = false } = {}) {
  const head = (one) => {
    const [text, kind] = Array.isArray(one) ? one : [one, ""];
    return h("th", { scope: "col", class: kind || false }, text);
  };
  const right = heads.map((one) => Array.isArray(one) && one[1] === "r");
  const cell = (value, column) => h("td", { class: right[column] ? "r" : false }, value);
  return h("div", { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: shown ? false : "hidden" }, caption),
      h("thead", {}, h("tr", {}, heads.map(head))),
      h("tbody", {}, rows.map((row) => {
        const { cells, ...attributes } = Array.isArray(row) ? { cells: row } : row;
        return h("tr", attributes, cells.map(cell));
      }))));
}
