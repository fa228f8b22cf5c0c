// The REST API: JSON both ways, errors as one line with the field they name.

const ROOT = "api/v1/";
const PATIENCE = [500, 1000, 2000, 4000];

/** A refusal: `message` is the command line's own line, `field` what it names, `problems` all lines if there are more. */
export class Refused extends Error {
  constructor(status, { field = "", message = "", problems = [] } = {}) {
    super(message || `the studio answered ${status}`);
    Object.assign(this, { status, field, problems: problems.length ? problems : [this.message] });
  }
}

let locked = () => {};

/** What to do when a token is asked for. */
export const whenLocked = (call) => { locked = call; };

async function refusal(response) {
  let error = {};
  try {
    ({ error } = await response.json());
  } catch { /* no JSON: the status says it */ }
  if (response.status === 401) locked();
  return new Refused(response.status, error);
}

async function asked(path, options) {
  try {
    return await fetch(ROOT + path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "the studio does not answer; was it stopped? Start it again with: pretune studio" });
  }
}

/** Gets JSON. */
export async function get(path, signal) {
  const response = await asked(path, { signal });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Posts JSON and gets JSON; where all solvers are busy it asks again a little later. */
export async function post(path, body = {}, signal = undefined) {
  for (const pause of [...PATIENCE, null]) {
    const response = await asked(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });
    if (response.ok) return response.status === 204 ? null : response.json();
    const error = await refusal(response);
    if (response.status !== 429 || pause === null || /job/.test(error.message)) throw error;
    await new Promise((done) => setTimeout(done, pause));
    signal?.throwIfAborted();
  }
  return null;
}

/** Logs in with the token, which stays in a cookie that scripts can't read. */
export async function login(token) {
  const response = await fetch("login", { method: "POST", headers: { authorization: `Bearer ${token}` } });
  if (!response.ok) throw await refusal(response);
}

/**
 * Follows a stream of server-sent events until `take(event, data)` says "end" or it is aborted. A lost connection is
 * taken up again after the last event that arrived, so nothing is shown twice and nothing is missed.
 */
export async function follow(path, take, signal) {
  let last = null, failures = 0;
  while (!signal.aborted) {
    try {
      const headers = { accept: "text/event-stream", ...(last === null ? {} : { "last-event-id": last }) };
      const response = await asked(path, { headers, signal });
      if (!response.ok) throw await refusal(response);
      failures = 0;
      for await (const { id, event, data } of events(response.body)) {
        if (id !== null) last = id;
        if (take(event, JSON.parse(data)) === "end") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status >= 400 && error.status !== 429) throw error;
    }
    failures += 1;
    await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** failures, 8000)));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const found = { id: null, event: "message", data: [] };
      for (const line of block.split("\n")) {
        const [key, ...parts] = line.split(":");
        const text = parts.join(":").replace(/^ /, "");
        if (key === "data") found.data.push(text);
        else if (key === "id" || key === "event") found[key] = text;
      }
      if (found.data.length > 0) yield { ...found, data: found.data.join("\n") };
    }
  }
}
