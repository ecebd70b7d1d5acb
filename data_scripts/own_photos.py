"""Own photos: a folder of one's own, such as mountains or waterfalls from Flickr.

    python data_scripts/own_photos.py              says how to get it
    python data_scripts/own_photos.py --from DIR   from a copy in the folder DIR
    python data_scripts/own_photos.py --adopt      keep a folder that you put there
    python data_scripts/own_photos.py --check      read all files again and compare

Used by: swapping_autoencoder, cut.  Lies in: train/*.jpg and val/*.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("own_photos"))
