"""From the hand to the eye: how long after a slider's move the page shows the plan of it, in a real browser.

    python benchmarks/studio_drag.py [--drags N] [--json FILE]      needs Chromium, and the extras studio and browser

A mouse drags the slider of the energy budget in the studio's own page, with the 100 devices of the example `campus`. A
drag's time runs from the browser's input event to the end of the frame in which the plan for exactly that budget is
painted (the first task after that frame's own callbacks). Separate: the slider rests after each move. Continuous: a
move every 33 ms without waiting, and the time of the moves that were shown; newer ones replace the rest. How long the
studio's answers took is told apart. Then a table of 10,000 devices is sorted and filtered in the same browser, from the
call to the painted frame.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "studio"))

from studio_browser import SHOWN, browser, studio, why_not

DEVICES = 10_000
PAINTED = """
const painted = () => new Promise((done) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => done(performance.now());
  port2.postMessage(0);
}));
"""
WATCH = f"""() => {{
  {PAINTED}
  const results = document.getElementById('results');
  window.moves = [];
  performance.setResourceTimingBufferSize(5000);
  // on the way down, so that the move is known before the page asks for its plan
  document.addEventListener('input', (event) => {{
    if (event.target.id === 'energy') window.moves.push({{ at: event.timeStamp, value: null, took: null }});
  }}, true);
  // what is asked for says which budget a move stands for
  const ask = window.fetch;
  window.fetch = (path, options) => {{
    if (String(path).endsWith('/plan')) {{
      const move = window.moves.at(-1);
      if (move && move.value === null) move.value = JSON.parse(options.body).energy_j;
    }}
    return ask(path, options);
  }};
  new MutationObserver(async () => {{
    const energy = Number(results.dataset.shown.split(' ')[0]);
    const move = window.moves.find((one) => one.took === null && one.value === energy);
    if (move) {{ move.took = 0; move.took = (await painted()) - move.at; }}
  }}).observe(results, {{ attributes: true, attributeFilter: ['data-shown'] }});
}}"""
TABLE = f"""async (count) => {{
  {PAINTED}
  const {{ DeviceTable }} = await import('/static/devices.js');
  const of = (f) => Array.from({{ length: count }}, (_, i) => f(i)), mixed = (i) => (i * 7919) % count;
  const table = new DeviceTable(), ones = of(() => 1), took = {{}};
  const time = async (name, call) => {{
    const all = [];
    for (let i = 0; i < 11; i++) {{
      await painted();
      const began = performance.now();
      call(i);
      all.push(await painted() - began);
    }}
    took[name] = all.sort((a, b) => a - b);
  }};
  table.show({{ name: of((i) => `node-${{i}}`), batch: of((i) => mixed(i) + 1), clock_hz: of((i) => 1e9 + mixed(3 * i)),
    power_w: of((i) => mixed(i) / 1e5), bandwidth_hz: ones, compute_s: ones, upload_s: ones, slack_s: ones,
    round_j: ones, total_j: ones, binds: of((i) => (i % 2 ? ['power'] : [])) }});
  const field = document.getElementById('device-filter'), scroller = document.getElementById('device-scroll');
  await time('sort by a number', (i) => table.sortBy(i % 2 ? 'clock_hz' : 'batch'));
  await time('sort by name', (i) => table.sortBy(i % 2 ? 'batch' : 'name'));
  await time('filter by a condition', (i) => {{ field.value = `power > ${{i + 1}} mW`; table.filterBy(); }});
  await time('filter by name', (i) => {{ field.value = `node-${{i + 1}}`; table.filterBy(); }});
  field.value = ''; table.filterBy();
  await time('scroll', (i) => {{ scroller.scrollTop = i * 30000; table.draw(); }});
  return took;
}}"""


def summary(times_ms: list[float]) -> dict[str, float]:
    """Median, 95th percentile and the longest, of sorted times."""
    times_ms = sorted(times_ms)
    at = [times_ms[min(int(share * len(times_ms)), len(times_ms) - 1)] for share in (0.5, 0.95)]
    return {"count": len(times_ms), "median_ms": at[0], "p95_ms": at[1], "longest_ms": times_ms[-1]}


def drag(page: Any, session: Any, moves: int, pause_s: float) -> dict[str, Any]:
    """Times of the moves that were shown; the mouse goes to and fro over the middle of the slider."""
    page.evaluate("() => { window.moves.length = 0; performance.clearResourceTimings(); }")
    began = cpu_s(session)
    box = page.locator("#energy").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.5 * box["width"], middle)
    page.mouse.down()
    for index in range(moves):
        share = 0.3 + 0.4 * (((index * 13) % 50) / 50 if pause_s > 0.1 else abs((index % 100) - 50) / 50)
        page.mouse.move(box["x"] + share * box["width"], middle)
        if pause_s > 0.1:  # each move on its own: wait until it is shown, then let the precise plan pass
            page.wait_for_function("() => window.moves.length > 0 && window.moves.at(-1).took > 0")
        time.sleep(pause_s)
    page.mouse.up()
    time.sleep(2.0)
    spent_ms = 1e3 * (cpu_s(session) - began)
    answers = page.evaluate(
        "() => performance.getEntriesByType('resource')"
        ".filter((one) => one.name.endsWith('/plan') && one.requestStart > 0 && one.responseEnd > 0)"
        ".map((one) => one.responseEnd - one.requestStart)"
    )
    took = [one["took"] for one in page.evaluate("() => window.moves") if one["took"]]
    return {
        "moves": moves,
        **summary(took),
        "answers": summary(answers),
        "page_cpu_ms_per_answer": spent_ms / len(answers),
    }


def cpu_s(session: Any) -> float:
    """Processor time that the page's main thread has taken, whatever else the machine does."""
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])


def measured(drags: int) -> dict[str, Any]:
    """Everything, on a studio and in a browser of their own."""
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder) / "runs") as address, browser() as chrome:
        page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        page.wait_for_selector(SHOWN)
        page.select_option("#example", "campus")
        page.wait_for_function("() => document.getElementById('title').textContent === 'campus'")
        page.wait_for_selector("#compare tr.best")
        page.wait_for_selector("#front svg >> nth=1")
        devices = page.inner_text("#scenario-words")
        page.evaluate(WATCH)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        drag(page, session, 5, 0.6)  # the first ones load what comes later from memory
        separate = drag(page, session, drags, 0.6)
        continuous = drag(page, session, 3 * drags, 0.033)
        table = page.evaluate(TABLE, DEVICES)
        return {
            "scenario": devices,
            "chromium": chrome.version,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "separate": separate,
            "continuous": continuous,
            "table": {name: summary(times) for name, times in table.items()},
        }


def main() -> int:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--drags", type=int, default=60, help="separate drags")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if why_not():
        print(why_not(), file=sys.stderr)
        return 1
    found = measured(options.drags)
    print(f"{found['scenario']} Chromium {found['chromium']}, {found['cores']} cores, load {found['load']:.1f}")
    rows = {"separate drags": found["separate"], "continuous drag": found["continuous"]}
    rows |= {f"{name}: the studio's answer": times["answers"] for name, times in list(rows.items())}
    rows |= {f"{DEVICES:,} devices: {name}": times for name, times in found["table"].items()}
    for name, times in rows.items():
        print(
            f"{name:40} {times['count']:4} times, median {times['median_ms']:6.1f} ms, "
            f"p95 {times['p95_ms']:6.1f} ms, longest {times['longest_ms']:6.1f} ms"
        )
    for name in ("separate", "continuous"):
        print(f"{name}: {found[name]['page_cpu_ms_per_answer']:.1f} ms of the page's main thread for each answer")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
