"""GTA-5, Playing for Data: 24,966 rendered street scenes with label maps, 1914x1052.

    python data_scripts/gta5.py              from its publisher
    python data_scripts/gta5.py --from DIR   from a copy in the folder DIR
    python data_scripts/gta5.py --adopt      keep a folder that you put there
    python data_scripts/gta5.py --check      read all files again and compare

Used by: conditional_imle, cycada.  Lies in: images/*.png and labels/*.png.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("gta5"))
