"""Turn a pip report (`pip install --dry-run --report`) into constraints.txt; used by `make constraints`.

Local version parts (`+cpu`) are left out, so that the same pins resolve wherever the packages come from.
"""

import json
import sys

HEAD = """\
# One resolved set for all extras, transitive packages too. Written by `make constraints`; do not edit by hand.
# Use it with: pip install -c constraints.txt 'pretune[train]'
"""


def main() -> None:
    """Read the report named first, write the pins to standard output."""
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    pins = {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"].split("+")[0]
        for item in report["install"]
    }
    pins.pop("pretune")
    print(HEAD + "\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))


main()
