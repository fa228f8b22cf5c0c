// Of many requests only the newest counts.

/**
 * A lane for requests where a newer one replaces those that wait, and an answer is dropped when a newer one was shown.
 * `ask(what, signal)` makes the request; `show(answer, what)` and `fail(error, what)` get what is still wanted.
 * At most `most` are under way. When a newer one waits, one for which `yields(what)` holds is aborted at once, and any other
 * when it is older than `patience_ms`, which doubles with each that was aborted until one is shown: however slow the
 * answers are, some arrive.
 */
export function lane({ ask, show, fail, most = 1, patience_ms = 1000, yields = () => false, busy = () => {} }) {
  let asked = 0, shown = 0, waiting = null, patience = patience_ms;
  const underWay = new Map();

  function start() {
    if (waiting === null || underWay.size >= most) return;
    const { what, number } = waiting;
    const abort = new AbortController();
    waiting = null;
    underWay.set(number, { abort, what, since: performance.now() });
    busy(true);
    ask(what, abort.signal).then(
      (answer) => { if (number > shown) { shown = number; patience = patience_ms; show(answer, what); } },
      (error) => { if (error.name !== "AbortError" && number > shown) { shown = number; fail(error, what); } },
    ).finally(() => {
      underWay.delete(number);
      start();
      if (underWay.size === 0) busy(false);
    });
  }

  return {
    /** Ask for this, in place of whatever waits. */
    want(what) {
      asked += 1;
      waiting = { what, number: asked };
      const now = performance.now();
      for (const one of underWay.values()) {
        if (one.abort.signal.aborted) continue;
        if (yields(one.what)) one.abort.abort();
        else if (now - one.since > patience) {
          one.abort.abort();
          patience *= 2;
        }
      }
      start();
    },
    /** Forget what waits and what is under way: its answer would be about something else. */
    drop() {
      waiting = null;
      shown = asked;
      for (const { abort } of underWay.values()) abort.abort();
    },
    get idle() { return waiting === null && underWay.size === 0; },
  };
}

/** Calls the function when it has not been called for so long. */
export function settled(wait_ms, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), wait_ms);
  };
}
