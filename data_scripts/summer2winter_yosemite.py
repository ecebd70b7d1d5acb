"""Yosemite in summer (A) and winter (B), unpaired, 256x256.

    python data_scripts/summer2winter_yosemite.py              from its publisher
    python data_scripts/summer2winter_yosemite.py --from DIR   from a copy in the folder DIR
    python data_scripts/summer2winter_yosemite.py --adopt      keep a folder that you put there
    python data_scripts/summer2winter_yosemite.py --check      read all files again and compare

Used by: cyclegan.  Lies in: {train,test}{A,B}/*.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("summer2winter_yosemite"))
