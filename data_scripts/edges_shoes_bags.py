"""Edges and photos of shoes and bags as pairs 256x128, mixed: photo left, edges right.

    python data_scripts/edges_shoes_bags.py              from its publisher
    python data_scripts/edges_shoes_bags.py --from DIR   from a copy in the folder DIR
    python data_scripts/edges_shoes_bags.py --adopt      keep a folder that you put there
    python data_scripts/edges_shoes_bags.py --check      read all files again and compare

Used by: bicyclegan, cgml.  Lies in: {train,val}/N_AB.jpg; not the original edges2shoes.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("edges_shoes_bags"))
