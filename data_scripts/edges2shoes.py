"""Edges and photos of shoes as pairs 512x256: edges left, photo right.

    python data_scripts/edges2shoes.py              from its publisher
    python data_scripts/edges2shoes.py --from DIR   from a copy in the folder DIR
    python data_scripts/edges2shoes.py --adopt      keep a folder that you put there
    python data_scripts/edges2shoes.py --check      read all files again and compare

Used by: bicyclegan, cgml.  Lies in: {train,val}/N_AB.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("edges2shoes"))
