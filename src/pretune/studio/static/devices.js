// The table of the devices: sorted and filtered as columns of numbers, and only the rows in sight are drawn.

import { at, h, onFrame, put, say } from "./dom.js";
import { parseFilter } from "./filter.js";
import { count, hertz, joules, seconds, watts } from "./words.js";

const ROW_PX = 34, SPARE = 6;
const LIMITS = { batch: "batch", clock: "clock", power: "power", battery: "battery", deadline: "deadline" };

export const COLUMNS = [
  { key: "name", title: "Device", text: (value) => value },
  { key: "batch", title: "Batch", text: count, unit: "" },
  { key: "clock_hz", title: "Clock", text: hertz, unit: "Hz" },
  { key: "power_w", title: "Power", text: watts, unit: "W" },
  { key: "bandwidth_hz", title: "Band", text: hertz, unit: "Hz" },
  { key: "compute_s", title: "Compute", text: seconds, unit: "s" },
  { key: "upload_s", title: "Airtime", text: seconds, unit: "s" },
  { key: "slack_s", title: "Slack", text: (value) => (value < 1e-12 ? "0" : seconds(value)), unit: "s" },
  { key: "round_j", title: "Energy a round", text: joules, unit: "J" },
  { key: "total_j", title: "Energy in all", text: joules, unit: "J" },
  { key: "binds", title: "At its limit", text: (value) => value.map((one) => LIMITS[one] ?? one).join(", ") },
];

/** The table in the page's `devices` section; `show` gives it other columns of data. */
export class DeviceTable {
  constructor() {
    this.data = null;
    this.order = new Uint32Array(0);
    this.sort = { key: null, down: false };
    this.filter = null;
    this.scroller = at("device-scroll");
    this.body = at("device-rows");
    this.table = at("device-table");
    this.heads = COLUMNS.map((column) => h("th", { scope: "col", role: "columnheader", class: column.unit === undefined ? false : "r" },
      h("button", { type: "button", onclick: () => this.sortBy(column.key) }, column.title)));
    put(at("device-heads"), this.heads);
    this.scroller.addEventListener("scroll", () => onFrame("rows", () => this.draw()), { passive: true });
    new ResizeObserver(() => onFrame("rows", () => this.draw())).observe(this.scroller);
    at("device-filter").addEventListener("input", () => this.filterBy());
    at("device-binds").addEventListener("change", () => this.filterBy());
  }

  /** Shows the columns of a plan, or none for a plan without fine-tuning. */
  show(data) {
    this.data = data;
    this.range = null;
    at("devices").hidden = data === null;
    if (data !== null) this.arrange();
  }

  sortBy(key) {
    const { sort } = this;
    if (sort.key === key && sort.down) this.sort = { key: null, down: false };
    else this.sort = { key, down: sort.key === key };
    this.heads.forEach((head, i) => {
      if (COLUMNS[i].key === this.sort.key) head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.arrange();
    this.scroller.scrollTop = 0;
  }

  filterBy() {
    const text = at("device-filter").value, { test, problem } = parseFilter(text, COLUMNS);
    at("device-filter").setAttribute("aria-invalid", problem ? "true" : "false");
    at("device-filter-note").textContent = problem || "";
    this.filter = problem ? () => true : test;
    this.arrange();
    this.scroller.scrollTop = 0;
    say(`${count(this.order.length)} of ${count(this.data?.name.length ?? 0)} devices shown`);
  }

  /** Which rows in which order; a few milliseconds for ten thousand devices. */
  arrange() {
    const { data, sort } = this;
    if (data === null) return;
    const binds = at("device-binds").value, found = [];
    for (let i = 0; i < data.name.length; i++) {
      if (binds && (binds === "none" ? data.binds[i].length > 0 : !data.binds[i].includes(binds))) continue;
      if (this.filter && !this.filter(data, i)) continue;
      found.push(i);
    }
    this.order = Uint32Array.from(found);
    if (sort.key !== null) {
      const values = data[sort.key], sign = sort.down ? -1 : 1;
      const compare = sort.key === "name" ? new Intl.Collator(undefined, { numeric: true }).compare
        : sort.key === "binds" ? (a, b) => a.join().localeCompare(b.join()) : (a, b) => a - b;
      this.order.sort((i, j) => sign * compare(values[i], values[j]) || i - j);
    }
    at("device-count").textContent = this.order.length === data.name.length
      ? `${count(data.name.length)} devices` : `${count(this.order.length)} of ${count(data.name.length)} devices`;
    this.table.setAttribute("aria-rowcount", String(this.order.length + 1));
    this.range = null;
    onFrame("rows", () => this.draw());
  }

  /** Draws the rows in sight; empty rows above and below keep the length of the scroll bar. */
  draw() {
    const { data, order, scroller } = this;
    if (data === null) return;
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_PX) - SPARE);
    const last = Math.min(order.length, first + Math.ceil((scroller.clientHeight || 460) / ROW_PX) + 2 * SPARE);
    if (this.range && this.range[0] === first && this.range[1] === last) return;
    this.range = [first, last];
    const rows = [];
    for (let at = first; at < last; at++) {
      const device = order[at];
      rows.push(h("tr", { role: "row", "aria-rowindex": String(at + 2) }, COLUMNS.map((column) => {
        const values = data[column.key];
        const text = values ? column.text(values[device]) : "";
        return h("td", { role: "cell", class: column.unit === undefined ? (column.key === "name" ? "name" : false) : "r",
          title: column.key === "name" ? text : false }, text);
      })));
    }
    const space = (rowsAway) => h("tr", { "aria-hidden": "true", class: "space", style: { height: `${rowsAway * ROW_PX}px` } });
    put(this.body, first > 0 ? space(first) : null, rows, last < order.length ? space(order.length - last) : null);
  }
}
