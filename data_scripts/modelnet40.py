"""ModelNet40: 12,311 CAD models in forty classes.

    python data_scripts/modelnet40.py              from its publisher
    python data_scripts/modelnet40.py --from DIR   from a copy in the folder DIR
    python data_scripts/modelnet40.py --adopt      keep a folder that you put there
    python data_scripts/modelnet40.py --check      read all files again and compare

Used by: cgml_spectral.  Lies in: CLASS/{train,test}/*.off.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("modelnet40"))
