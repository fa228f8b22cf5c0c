// What is typed above the table of devices: part of a name, or conditions such as `power > 100 mW, slack < 1 ms`.

const PREFIX = { p: 1e-12, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
const CONDITION = /^\s*([a-z][a-z _]*?)\s*(<=|>=|<|>|=)\s*([-+]?[0-9.]+(?:e[-+]?\d+)?)\s*([a-zµ%]*)\s*$/i;
const COMPARE = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
  "=": (a, b) => Math.abs(a - b) <= 5e-4 * Math.abs(b),
};

/** {test(data, row), problem}: conditions and names, parted by commas, that all have to hold. */
export function parseFilter(text, columns) {
  const tests = [];
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const found = CONDITION.exec(part);
    if (!found) {
      if (/[<>=]/.test(part)) return { test: null, problem: `“${part}”: write a column, a sign and a number, such as power > 100 mW` };
      const wanted = part.toLowerCase();
      tests.push((data, row) => data.name[row].toLowerCase().includes(wanted));
      continue;
    }
    const [, name, sign, digits, unit] = found;
    const column = columns.find((one) => one.unit !== undefined && one.title.toLowerCase().startsWith(name.toLowerCase()));
    if (!column) return { test: null, problem: `“${name}” is no column; try ${columns.filter((one) => one.unit !== undefined).map((one) => one.title.toLowerCase()).join(", ")}` };
    const factor = unitFactor(unit, column.unit), limit = Number(digits) * factor;
    if (!Number.isFinite(limit)) return { test: null, problem: `“${part}”: ${column.title.toLowerCase()} is in ${column.unit || "samples"}, with or without a prefix` };
    const holds = COMPARE[sign];
    tests.push((data, row) => holds(data[column.key]?.[row], limit));
  }
  return { test: tests.length === 0 ? null : (data, row) => tests.every((one) => one(data, row)), problem: "" };
}

function unitFactor(given, unit) {
  if (given === "" || given === unit) return 1;
  if (unit === "s" && given === "min") return 60;
  if (unit === "s" && given === "h") return 3600;
  return given.endsWith(unit) && unit !== "" ? PREFIX[given.slice(0, -unit.length)] ?? NaN : NaN;
}
