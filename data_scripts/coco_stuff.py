"""COCO-Stuff: 118,287 + 5,000 photos with label maps of 182 classes.

    python data_scripts/coco_stuff.py              from its publisher
    python data_scripts/coco_stuff.py --from DIR   from a copy in the folder DIR
    python data_scripts/coco_stuff.py --adopt      keep a folder that you put there
    python data_scripts/coco_stuff.py --check      read all files again and compare

Used by: spade.  Lies in: {train,val}_img/*.jpg, labels/{train,val}2017/*.png and
annotations/*.json; {train,val}_inst/*.png after python data_scripts/prepare.py coco_stuff.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("coco_stuff"))
