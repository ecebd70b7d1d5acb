"""Natural scenes: 1,400 photos 224x224 tagged desert, mountain, sea, sunset, trees.

    python data_scripts/natural_scenes.py              from its publisher
    python data_scripts/natural_scenes.py --from DIR   from a copy in the folder DIR
    python data_scripts/natural_scenes.py --adopt      keep a folder that you put there
    python data_scripts/natural_scenes.py --check      read all files again and compare

Used by: cinn, cut, cyclegan, swapping_autoencoder.  Lies in: train/ID.jpg and train.csv.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("natural_scenes"))
