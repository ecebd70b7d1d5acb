"""BDD100K: 10,000 driving photos by day, dusk and night with label maps of 19 classes, 1280x720.

    python data_scripts/bdd100k.py              says how to get it
    python data_scripts/bdd100k.py --from DIR   from a copy in the folder DIR
    python data_scripts/bdd100k.py --adopt      keep a folder that you put there
    python data_scripts/bdd100k.py --check      read all files again and compare

Used by: conditional_imle.  Lies in: images/10k/{train,val,test}/*.jpg and
labels/sem_seg/masks/{train,val}/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("bdd100k"))
