"""Measure the constants of an example scenario and write them into its file.

    python examples/measure_demo.py examples/digits.yaml
    python examples/measure_demo.py examples/mnist_usps.yaml --folder PATH/TO/DATA
    python examples/measure_demo.py examples/digits.yaml --check      # compare only; exit 1 if they do not agree

Only the numbers of those keys in `workload` and `convergence` that can be measured are replaced (in `convergence`
rounded to three digits); everything else in the file, comments included, stays as it is. The same file, data and
PyTorch give the same numbers again.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pretune.errors import InputError, PretuneError
from pretune.runtime.measure import measure
from pretune.scenario import load_scenario


def main() -> int:
    """Measure, print how each figure was taken, and write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--folder", help="where the data set's files are, if the scenario does not say")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a figure is off by over 5%%")
    options = parser.parse_args()
    scenario = load_scenario(options.scenario)
    if options.folder:
        scenario = scenario.replace(task={**(scenario.task or {}), "folder": str(Path(options.folder).resolve())})
    found = measure(scenario, base=options.scenario.parent)
    text = options.scenario.read_text(encoding="utf-8")
    off = []
    for key, value in {**found.workload, **found.convergence}.items():
        figure = getattr(found, key)
        print(f"{key}: {value:.3g}  (met {figure.low:.3g} to {figure.high:.3g}; {figure.method})")
        held = re.search(rf"^  {key}: *([-+.0-9e]+) *", text, flags=re.MULTILINE)
        if held is None:
            sys.exit(f"{options.scenario}: has no line '  {key}: NUMBER' to write to")
        if abs(float(held[1]) - value) > 0.05 * abs(value):
            off.append(f"{key}: the file holds {held[1]}, measured {value:.3g}")
        width = held.end() - held.start(1)  # a comment after the number stays in its column
        number = f"{value:.0f}" if key in found.workload else f"{value:.3g}"
        text = text[: held.start(1)] + f"{number:<{width}}" + text[held.end() :]
    if options.check:
        print("\n".join(off) or "all figures in the file agree with these to 5%")
        return 1 if off else 0
    for step in ("pretrain_step", "finetune_step"):
        if getattr(scenario.convergence, step) > 1.0 / found.smoothness.value:
            most = f"{1.0 / found.smoothness.value:.3g}"
            raise InputError.field(
                f"convergence.{step}", getattr(scenario.convergence, step), f"at most 1/smoothness, {most}"
            )
    options.scenario.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PretuneError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
