"""Van Gogh's paintings (A) and landscape photos (B), unpaired, 256x256.

    python data_scripts/vangogh2photo.py              from its publisher
    python data_scripts/vangogh2photo.py --from DIR   from a copy in the folder DIR
    python data_scripts/vangogh2photo.py --adopt      keep a folder that you put there
    python data_scripts/vangogh2photo.py --check      read all files again and compare

Used by: cyclegan.  Lies in: {train,test}{A,B}/*.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("vangogh2photo"))
