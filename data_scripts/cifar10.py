"""CIFAR-10: 60,000 images in ten classes, 32x32, the original binary files.

    python data_scripts/cifar10.py              from its publisher
    python data_scripts/cifar10.py --from DIR   from a copy in the folder DIR
    python data_scripts/cifar10.py --adopt      keep a folder that you put there
    python data_scripts/cifar10.py --check      read all files again and compare

Used by: cgml.  Lies in: data_batch_{1..5}.bin, test_batch.bin, batches.meta.txt.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("cifar10"))
