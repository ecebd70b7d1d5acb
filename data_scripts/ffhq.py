"""FFHQ: 70,000 faces, 1024x1024.

    python data_scripts/ffhq.py              says how to get it
    python data_scripts/ffhq.py --from DIR   from a copy in the folder DIR
    python data_scripts/ffhq.py --adopt      keep a folder that you put there
    python data_scripts/ffhq.py --check      read all files again and compare

Used by: swapping_autoencoder.  Lies in: images1024x1024/NNNNN/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("ffhq"))
