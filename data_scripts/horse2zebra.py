"""Horses (A) and zebras (B) from ImageNet, unpaired, 256x256.

    python data_scripts/horse2zebra.py              from its publisher
    python data_scripts/horse2zebra.py --from DIR   from a copy in the folder DIR
    python data_scripts/horse2zebra.py --adopt      keep a folder that you put there
    python data_scripts/horse2zebra.py --check      read all files again and compare

Used by: cyclegan, cut.  Lies in: {train,test}{A,B}/*.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("horse2zebra"))
