"""AFHQ: 15,803 animal faces (cat, dog, wild), 512x512.

    python data_scripts/afhq.py              from its publisher
    python data_scripts/afhq.py --from DIR   from a copy in the folder DIR
    python data_scripts/afhq.py --adopt      keep a folder that you put there
    python data_scripts/afhq.py --check      read all files again and compare

Used by: cut, swapping_autoencoder.  Lies in: {train,val}/{cat,dog,wild}/*.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("afhq"))
