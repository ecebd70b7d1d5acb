"""CIFAR-10 as JPEG images in class folders (lossy, chroma halved).

    python data_scripts/cifar10_jpg.py              from its publisher
    python data_scripts/cifar10_jpg.py --from DIR   from a copy in the folder DIR
    python data_scripts/cifar10_jpg.py --adopt      keep a folder that you put there
    python data_scripts/cifar10_jpg.py --check      read all files again and compare

Used by: cgml.  Lies in: {train,test}/CLASS/N.jpg; the stand-in archive holds 20,000 + 5,000 of
them.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("cifar10_jpg"))
