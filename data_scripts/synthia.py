"""SYNTHIA-RAND-CITYSCAPES: 9,400 rendered street scenes with label maps, 1280x760.

    python data_scripts/synthia.py              says how to get it
    python data_scripts/synthia.py --from DIR   from a copy in the folder DIR
    python data_scripts/synthia.py --check      read all files again and compare

Used by: cycada.  Lies in: RGB/*.png and GT/LABELS/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("synthia"))
