"""ImageNet ILSVRC 2012: 1,281,167 + 50,000 photos in 1,000 classes.

    python data_scripts/imagenet.py              says how to get it
    python data_scripts/imagenet.py --from DIR   from a copy in the folder DIR
    python data_scripts/imagenet.py --adopt      keep a folder that you put there
    python data_scripts/imagenet.py --check      read all files again and compare

Used by: cinn, cgml.  Lies in: train/CLASS/*.JPEG and val/CLASS/*.JPEG.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("imagenet"))
