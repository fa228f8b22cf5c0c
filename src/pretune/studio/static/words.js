// Numbers as people read them: the same rules as pretune/report/words.py, so that page, report and terminal agree.

const PREFIXES = { "-12": "p", "-9": "n", "-6": "µ", "-3": "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T" };
const KEPT = "\u00a0";
const missing = (value) => value === null || value === undefined || Number.isNaN(value);

/** `digits` significant digits, no trailing zeros, no exponent for everyday sizes. */
export function significant(value, digits = 4) {
  if (missing(value)) return "-";
  if (!Number.isFinite(value)) return value < 0 ? "-∞" : "∞";
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const size = Number(exponent);
  if (size >= 0 && size < 12 && size >= digits) return Number(value.toPrecision(digits)).toFixed(0);
  if (size < -4 || size >= 12) return `${Number(mantissa)}e${size}`;
  return String(Number(value.toPrecision(digits)));
}

/** A value with an engineering prefix: 9.1e8 Hz is 910 MHz. */
export function quantity(value, unit, digits = 4) {
  if (missing(value)) return "-";
  if (!Number.isFinite(value)) return "no limit";
  if (value === 0) return `0${KEPT}${unit}`;
  let exponent = Math.min(Math.max(3 * Math.floor(Math.log10(Math.abs(value)) / 3), -12), 12);
  let shown = significant(value / 10 ** exponent, digits);
  if (Math.abs(Number(shown)) >= 1000 && exponent < 12) {
    exponent += 3;
    shown = significant(value / 10 ** exponent, digits);
  }
  return `${shown}${KEPT}${PREFIXES[exponent]}${unit}`;
}

export const joules = (value, digits = 4) => quantity(value, "J", digits);
export const hertz = (value, digits = 4) => quantity(value, "Hz", digits);
export const watts = (value, digits = 4) => quantity(value, "W", digits);

/** A duration: prefixes below two minutes, then minutes and hours, which is how people plan. */
export function seconds(value, digits = 4) {
  if (missing(value) || !Number.isFinite(value) || Math.abs(value) < 119.95) return quantity(value, "s", digits);
  if (value < 3600) {
    const whole = Math.round(value * 10) / 10;
    const minutes = `${Math.floor(whole / 60)}${KEPT}min`, rest = whole % 60;
    return rest < 0.05 ? minutes : `${minutes} ${rest.toFixed(1)}${KEPT}s`;
  }
  const minutes = Math.round(value / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}${KEPT}h ${String(minutes % 60).padStart(2, "0")}${KEPT}min`;
  return `${(minutes / 60 / 24).toFixed(1)}${KEPT}days`;
}

/** A whole number with thousands apart. */
export const count = (value) => (missing(value) ? "-" : Math.round(value).toLocaleString("en-US"));

/** A share of one as a percentage; tiny shares keep two significant digits. */
export function percent(share, digits = 1) {
  if (missing(share) || !Number.isFinite(share)) return "-";
  if (share !== 0 && Math.abs(share) * 100 < 0.5 * 10 ** -digits) return `${significant(share * 100, 2)}${KEPT}%`;
  return `${(share * 100).toFixed(digits)}${KEPT}%`;
}

/** A share of one that may be tiny. */
export const gap = (share) => (missing(share) ? "-" : `${significant(share * 100, 3)}${KEPT}%`);

/** A budget as a text that a scenario file takes: "1.25 kJ", "600 s". */
export function amount(value, unit) {
  if (unit === "s" && value >= 1) return `${significant(value, 5)} s`;
  return quantity(value, unit, 5).replaceAll(KEPT, " ");
}

/** A date as people near it read it. */
export function moment(iso) {
  const when = new Date(typeof iso === "number" ? iso * 1000 : iso);
  return Number.isNaN(when.getTime()) ? String(iso) : when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
