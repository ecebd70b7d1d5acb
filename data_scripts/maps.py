"""Aerial photos and maps of New York as pairs 1200x600: photo left, map right.

    python data_scripts/maps.py              from its publisher
    python data_scripts/maps.py --from DIR   from a copy in the folder DIR
    python data_scripts/maps.py --adopt      keep a folder that you put there
    python data_scripts/maps.py --check      read all files again and compare

Used by: bicyclegan, cyclegan.  Lies in: {train,val}/N.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("maps"))
