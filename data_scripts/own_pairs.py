"""Own pairs: an input and its picture side by side, such as landmarks and a face.

    python data_scripts/own_pairs.py              says how to get it
    python data_scripts/own_pairs.py --from DIR   from a copy in the folder DIR
    python data_scripts/own_pairs.py --adopt      keep a folder that you put there
    python data_scripts/own_pairs.py --check      read all files again and compare

Used by: cgml_images.  Lies in: train/*.jpg and val/*.jpg, the input on the left.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("own_pairs"))
