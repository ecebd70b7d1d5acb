"""All data sets of the book: which are here, and what getting the others takes.

python data_scripts/all.py              a table of all data sets
python data_scripts/all.py --from DIR   unpack every data set of which DIR holds a copy
python data_scripts/all.py --online     ask every publisher whether the files are still served
"""

import argparse
import sys
from pathlib import Path

from minilib.catalogue import catalogue, status
from minilib.download import DownloadError
from minilib.install import folder_of_copies, holds, install
from minilib.paths import data_root
from minilib.signals import clean_up_when_stopped


def main() -> int:
    """Show the table, after unpacking what can be unpacked; status 1 if any of it failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="show the table (the default)")
    parser.add_argument("--from", dest="local", type=Path, metavar="DIR", help="unpack from DIR")
    parser.add_argument("--online", action="store_true", help="ask the publishers, keep nothing")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the data folder")
    options = parser.parse_args()
    clean_up_when_stopped()
    try:
        if options.online:
            return ask()
        if options.local and not options.list:
            folder_of_copies(options.local)
        return table(options.root or data_root(), None if options.list else options.local)
    except (DownloadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing half-made was left behind", file=sys.stderr)
        return 130


def ask() -> int:
    """Ask every publisher; status 1 if any file cannot be had."""
    from minilib.sources import online  # only here: it brings what talks to servers

    answers = online(catalogue().values())
    for key, (_, line) in answers.items():
        print(f"{key:50}{line}")
    return int(not all(served for served, _ in answers.values()))


def table(root: Path, local: Path | None) -> int:
    """One line for each data set, after unpacking those of which ``local`` holds a copy."""
    failed = False
    for name, entry in catalogue().items():
        try:
            if local and holds(entry, local):
                install(entry, root, local)
        except DownloadError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
        print(f"{name:24}{status(entry, root)}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
