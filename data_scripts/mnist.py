"""MNIST: 70,000 handwritten digits, 28x28.

    python data_scripts/mnist.py              from its publisher
    python data_scripts/mnist.py --from DIR   from a copy in the folder DIR
    python data_scripts/mnist.py --adopt      keep a folder that you put there
    python data_scripts/mnist.py --check      read all files again and compare

Used by: cinn, cgml, conditional_imle, cycada.  Lies in:
{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz, as published.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("mnist"))
