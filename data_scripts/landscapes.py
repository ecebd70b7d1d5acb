"""Landscapes: one's own photos with label maps, in the place of the thesis's 40,000 from Flickr.

    python data_scripts/landscapes.py              says how to get it
    python data_scripts/landscapes.py --from DIR   from a copy in the folder DIR
    python data_scripts/landscapes.py --adopt      keep a folder that you put there
    python data_scripts/landscapes.py --check      read all files again and compare

Used by: spade.  Lies in: {train,val}_img/*.jpg and {train,val}_label/*.png, labels 0 to 181 as in
COCO-Stuff, 255 for none.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("landscapes"))
