"""Cityscapes: 2,975 + 500 street scenes with fine label maps, 2048x1024.

    python data_scripts/cityscapes.py              says how to get it
    python data_scripts/cityscapes.py --from DIR   from a copy in the folder DIR
    python data_scripts/cityscapes.py --adopt      keep a folder that you put there
    python data_scripts/cityscapes.py --check      read all files again and compare

Used by: spade, cyclegan, cut, cycada, bicyclegan.  Lies in:
leftImg8bit/{train,val,test}/CITY/*.png and gtFine/{train,val,test}/CITY/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("cityscapes"))
