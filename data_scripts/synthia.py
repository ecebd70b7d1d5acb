"""SYNTHIA: rendered drives through three sequences, fall and winter, with label maps, 1280x760.

    python data_scripts/synthia.py              says how to get it
    python data_scripts/synthia.py --from DIR   from a copy in the folder DIR
    python data_scripts/synthia.py --adopt      keep a folder that you put there
    python data_scripts/synthia.py --check      read all files again and compare

Used by: cycada.  Lies in:
SYNTHIA-SEQS-{04-FALL,04-WINTER,05-WINTER}/{RGB,GT/LABELS}/Stereo_Left/Omni_F/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("synthia"))
