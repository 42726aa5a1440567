"""What holds when things go wrong, shown by doing the harm: docs/reliability.md and docs/benchmarks/reliability.json.

python studies/reliability.py --workdir=RUN [--parts=kills,mutants] [--count=30]    # hours on two cores; goes on where
python studies/reliability.py --workdir=RUN --page                                  # it was stopped; page alone
"""

import argparse
import importlib
import pathlib

from harm import page

PARTS = ("kills", "mutants", "surroundings", "silence", "versions", "long_runs")  # modules of `harm`


def main() -> None:
    """Does the harms that are still open, then writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="keeps records and whatever is harmed")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}; default all")
    parser.add_argument("--count", type=int, default=None, help="harms of each kind; default: the part's own number")
    parser.add_argument("--page", action="store_true", help="only write the page from what was done so far")
    arguments = parser.parse_args()
    asked = arguments.parts.split(",")
    if unknown := [name for name in asked if name not in PARTS]:
        parser.error(f"--parts={','.join(unknown)}: give some of {','.join(PARTS)}")
    modules = {name: importlib.import_module(f"harm.{name}") for name in asked}
    if not arguments.page:
        for module in modules.values():
            module.run(arguments.workdir, arguments.count or module.COUNT)
    page.write(arguments.workdir, PARTS)


if __name__ == "__main__":
    main()
