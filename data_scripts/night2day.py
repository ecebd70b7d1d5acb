"""Night and day of the same webcams as pairs 512x256.

    python data_scripts/night2day.py              from its publisher
    python data_scripts/night2day.py --from DIR   from a copy in the folder DIR
    python data_scripts/night2day.py --adopt      keep a folder that you put there
    python data_scripts/night2day.py --check      read all files again and compare

Used by: bicyclegan.  Lies in: {train,val,test}/*.jpg.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("night2day"))
