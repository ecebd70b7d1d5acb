"""SVHN: house numbers, 73,257 + 26,032 digits, 32x32.

    python data_scripts/svhn.py              from its publisher
    python data_scripts/svhn.py --from DIR   from a copy in the folder DIR
    python data_scripts/svhn.py --adopt      keep a folder that you put there
    python data_scripts/svhn.py --check      read all files again and compare

Used by: cycada.  Lies in: train_32x32.mat and test_32x32.mat.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("svhn"))
