"""ShapeNetCore v1: 51,300 CAD models in 55 categories.

    python data_scripts/shapenet.py              says how to get it
    python data_scripts/shapenet.py --from DIR   from a copy in the folder DIR
    python data_scripts/shapenet.py --adopt      keep a folder that you put there
    python data_scripts/shapenet.py --check      read all files again and compare

Used by: cgml_spectral.  Lies in: CATEGORY/MODEL/model.obj.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("shapenet"))
