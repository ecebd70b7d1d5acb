"""ModelNet10: 4,899 CAD models in ten classes.

    python data_scripts/modelnet10.py              from its publisher
    python data_scripts/modelnet10.py --from DIR   from a copy in the folder DIR
    python data_scripts/modelnet10.py --adopt      keep a folder that you put there
    python data_scripts/modelnet10.py --check      read all files again and compare

Used by: cgml_spectral.  Lies in: CLASS/{train,test}/*.off.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("modelnet10"))
