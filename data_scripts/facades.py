"""CMP Facades as pairs 512x256: photo left, labels right.

    python data_scripts/facades.py              from its publisher
    python data_scripts/facades.py --from DIR   from a copy in the folder DIR
    python data_scripts/facades.py --adopt      keep a folder that you put there
    python data_scripts/facades.py --check      read all files again and compare

Used by: bicyclegan, cgml, cyclegan.  Lies in: {train,val,test}/N.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("facades"))
