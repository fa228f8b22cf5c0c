"""The installed wheel imports and plans without PyTorch and the other optional parts; run by `make wheel`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

DATA = ("report/page.css", "report/base.html.j2", "studio/static/index.html", "studio/static/main.js")
HEAVY = ("torch", "flwr", "fastapi", "cvxpy", "sklearn", "mlflow", "tensorboard", "zeus")


def main() -> None:
    """Fail with a sentence as soon as something is wrong."""
    present = [name for name in HEAVY if importlib.util.find_spec(name) is not None]
    if present:
        sys.exit(f"this environment should hold no optional package, but has {', '.join(present)}")
    import pretune

    where = Path(pretune.__file__)
    if "site-packages" not in where.parts:
        sys.exit(f"pretune should come from the wheel, not from {where}")
    lacking = [name for name in DATA if not (where.parent / name).is_file()]
    if lacking:
        sys.exit(f"the wheel should hold {', '.join(lacking)}")
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import pretune, pretune.cli"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in loaded.splitlines() if "|" in line}
    slow = sorted(names & {"matplotlib", "pint", "pyarrow", "numba", "jinja2"})
    if slow:
        sys.exit(f"`import pretune` and the command line should start fast, but load {', '.join(slow)}")
    print(f"wheel: pretune {pretune.__version__} imports without {', '.join(HEAVY)}")


main()
