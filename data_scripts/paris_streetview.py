"""Paris StreetView: 14,900 + 100 facades for completion.

    python data_scripts/paris_streetview.py              says how to get it
    python data_scripts/paris_streetview.py --from DIR   from a copy in the folder DIR
    python data_scripts/paris_streetview.py --adopt      keep a folder that you put there
    python data_scripts/paris_streetview.py --check      read all files again and compare

Used by: cgml.  Lies in: paris_train_original/*.JPG and paris_eval_gt/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("paris_streetview"))
