"""CamVid: street scenes by day and at dusk with label maps of 11 classes, 480x360.

    python data_scripts/camvid.py              from its publisher
    python data_scripts/camvid.py --from DIR   from a copy in the folder DIR
    python data_scripts/camvid.py --adopt      keep a folder that you put there
    python data_scripts/camvid.py --check      read all files again and compare

Used by: spade, conditional_imle, cyclegan, cut, cycada.  Lies in: {train,val,test}/*.{png,jpg}
and {train,val,test}annot/*.png, labels 0-10, 11 = void; 0001TP* is dusk.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("camvid"))
