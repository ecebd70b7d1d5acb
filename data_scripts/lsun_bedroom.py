"""LSUN bedroom: 3,033,042 photos in an lmdb database, shorter side 256.

    python data_scripts/lsun_bedroom.py              from its publisher
    python data_scripts/lsun_bedroom.py --from DIR   from a copy in the folder DIR
    python data_scripts/lsun_bedroom.py --adopt      keep a folder that you put there
    python data_scripts/lsun_bedroom.py --check      read all files again and compare

Used by: cinn, swapping_autoencoder.  Lies in: train_lmdb/*.mdb and val_lmdb/*.mdb.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("lsun_bedroom"))
