"""ADE20K scene parsing: 20,210 + 2,000 photos with label maps of 150 classes.

    python data_scripts/ade20k.py              from its publisher
    python data_scripts/ade20k.py --from DIR   from a copy in the folder DIR
    python data_scripts/ade20k.py --adopt      keep a folder that you put there
    python data_scripts/ade20k.py --check      read all files again and compare

Used by: spade.  Lies in: images/{training,validation}/*.jpg and
annotations/{training,validation}/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("ade20k"))
