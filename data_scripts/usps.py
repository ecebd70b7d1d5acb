"""USPS: 9,298 handwritten digits from envelopes, 16x16.

    python data_scripts/usps.py              from its publisher
    python data_scripts/usps.py --from DIR   from a copy in the folder DIR
    python data_scripts/usps.py --adopt      keep a folder that you put there
    python data_scripts/usps.py --check      read all files again and compare

Used by: cycada.  Lies in: usps.bz2 (train) and usps.t.bz2 (test), libsvm text.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("usps"))
