"""STL-10: 13,000 labelled and 100,000 unlabelled images, 96x96.

    python data_scripts/stl10.py              from its publisher
    python data_scripts/stl10.py --from DIR   from a copy in the folder DIR
    python data_scripts/stl10.py --adopt      keep a folder that you put there
    python data_scripts/stl10.py --check      read all files again and compare

Used by: cgml.  Lies in: {train,test,unlabeled}_X.bin, {train,test}_y.bin, class_names.txt.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("stl10"))
