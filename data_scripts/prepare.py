"""The second step, where a data set needs one: maps to be made, or a smaller copy.

    python data_scripts/prepare.py --list                                what needs preparing
    python data_scripts/prepare.py coco_stuff                            make its instance maps
    python data_scripts/prepare.py gta5 --size 256x512 --to data_small   a copy, resized

Interrupted, it goes on where it stopped.  Chapters read the copy with MINILIB_DATA=data_small.
"""

import argparse
import sys
from pathlib import Path

from minilib.catalogue import find, read_record
from minilib.download import DownloadError
from minilib.paths import data_root
from minilib.prepare import STEPS, prepare, shrink


def size_of(text: str) -> tuple[int, int]:
    """ "256x512" as (256, 512); one number is a square."""
    try:
        height, width = (
            int(part) for part in (text if "x" in text else f"{text}x{text}").split("x")
        )
    except ValueError:
        raise DownloadError(
            f"size '{text}': wanted HEIGHTxWIDTH in pixels, as in 256x512"
        ) from None
    if min(height, width) < 1:
        raise DownloadError(f"size '{text}': wanted at least one pixel")
    return height, width


def listed(root: Path) -> str:
    """One line for each data set that needs preparing."""
    lines = []
    for name in STEPS:
        record = read_record(root / name)
        state = "prepared" if record.get("prepared") else "to be prepared" if record else "not here"
        lines.append(f"{name:24}{state}")
    return "\n".join(lines)


def main() -> int:
    """Do what is asked; exit status 1 and one line where that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="", help="a data set")
    parser.add_argument("--size", metavar="HxW", help="make a copy of this size")
    parser.add_argument("--to", type=Path, metavar="DIR", help="the data folder of the copy")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the data folder")
    parser.add_argument("--list", action="store_true", help="say what needs preparing, and stop")
    options = parser.parse_args()
    root, show = options.root or data_root(), sys.stderr.isatty()
    try:
        if options.list or not options.name:
            print(listed(root))
        elif options.size or options.to:
            if not (options.size and options.to):
                raise DownloadError("a copy wants both --size and --to")
            name = find(options.name).name
            print(shrink(name, size_of(options.size), root, options.to, show))
        else:
            print(prepare(find(options.name).name, root, show))
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
