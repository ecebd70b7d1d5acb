"""Small samples: a Monet / Etretat pair, COCO-Stuff triples, AFHQ faces.

    python data_scripts/small_samples.py              from its publisher
    python data_scripts/small_samples.py --from DIR   from a copy in the folder DIR
    python data_scripts/small_samples.py --adopt      keep a folder that you put there
    python data_scripts/small_samples.py --check      read all files again and compare

Used by: cut, spade, swapping_autoencoder.  Lies in: single_image_monet_etretat/train{A,B}/,
coco_stuff/{train,val}_{img,label,inst}/, afhq_samples/{ref,src}/CLASS/; the stand-in archive also
holds skimage_images/ and sat2maps_samples/.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("small_samples"))
