"""43 triangle meshes (.obj, .off, .mesh): test models, tutorial data and ModelNet samples.

    python data_scripts/meshes.py              from its publisher
    python data_scripts/meshes.py --from DIR   from a copy in the folder DIR
    python data_scripts/meshes.py --adopt      keep a folder that you put there
    python data_scripts/meshes.py --check      read all files again and compare

Used by: cgml_spectral.  Lies in: {common_3d_test_models,libigl_tutorial_data,modelnet_samples}/*.
"""

from minilib.install import command

if __name__ == "__main__":
    raise SystemExit(command("meshes"))
