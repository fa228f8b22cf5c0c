// A scenario's tree as YAML that people can edit: units where the fields have them, one line a device.

const PLAIN = /^[A-Za-z_][A-Za-z0-9_-]*$/;
const WORDS = new Set(["true", "false", "null", "yes", "no", "on", "off", "nan", "inf"]);
const TYPED = /^[-+0-9.]+(e[-+]?[0-9]+)? [A-Za-z0-9/^*]+$/;

const key = (text) => (PLAIN.test(text) ? text : JSON.stringify(text));

function scalar(value) {
  if (typeof value === "string") {
    return (PLAIN.test(value) && !WORDS.has(value.toLowerCase())) || TYPED.test(value) ? value : JSON.stringify(value);
  }
  if (typeof value === "number" && value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-3)) {
    return value.toExponential().replace(/^(-?\d+)e/, "$1.0e").replace("e+", "e+");
  }
  return JSON.stringify(value);
}

function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${key(name)}: ${flow(one)}`).join(", ")}}`;
  }
  return scalar(value);
}

/** The text of a tree; `fields` of the API say how a value is written with its unit. */
export function textOf(tree, fields) {
  const written = new Map(fields.filter((field) => field.unit && field.text && typeof field.value === "number").map((field) => [field.path, field.text]));
  const lines = [];
  for (const [name, part] of Object.entries(tree)) {
    if (part === null) continue;
    if (Array.isArray(part)) {
      lines.push(`${key(name)}:`);
      for (const one of part) lines.push(`  - ${flow(bare(one))}`);
    } else if (typeof part === "object") {
      lines.push(`${key(name)}:`);
      for (const [inner, value] of Object.entries(part)) {
        if (value === null) continue;
        lines.push(`  ${key(inner)}: ${written.get(`${name}.${inner}`) ?? flow(value)}`);
      }
    } else lines.push(`${key(name)}: ${scalar(part)}`);
  }
  return `${lines.join("\n")}\n`;
}

/** A device without the keys that hold nothing. */
function bare(device) {
  if (device === null || typeof device !== "object") return device;
  return Object.fromEntries(Object.entries(device).filter(([, value]) => value !== null));
}
