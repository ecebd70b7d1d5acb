"""CelebA-HQ: 30,000 celebrity faces, 1024x1024.

    python data_scripts/celeba_hq.py              says how to get it
    python data_scripts/celeba_hq.py --from DIR   from a copy in the folder DIR
    python data_scripts/celeba_hq.py --adopt      keep a folder that you put there
    python data_scripts/celeba_hq.py --check      read all files again and compare

Used by: swapping_autoencoder.  Lies in: *.png or *.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("celeba_hq"))
