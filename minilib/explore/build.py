"""Bundle the explorers' JavaScript and their runtime into ``minilib/explore/static/``.

Usage: ``python -m minilib.explore.build [--npm-dir _build/npm]``, after ``npm ci`` of
``book/assets/package.json`` there.  Writes

- ``widget.js`` and ``widget.css``: the widget's code (an ES module) and look;
- ``runtime.bin``: onnxruntime-web's WebAssembly binary, gzipped, fetched over http;
- ``runtime.js``: the same bytes as base64 in a classic script, for pages opened from ``file://``.
"""

import argparse
import base64
import gzip
import os
import subprocess
from pathlib import Path

from minilib.explore.widget import STATIC
from minilib.paths import BUILD

SOURCE = Path(__file__).resolve().parent / "js"
WASM = "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
RUNTIME_FILES = ("runtime.bin", "runtime.js")


def build(npm: Path, static: Path = STATIC) -> list[Path]:
    """Bundle into ``static``; returns the files written.

    Args:
        npm: folder that holds ``node_modules``.
        static: where the files go.

    Raises:
        FileNotFoundError: the npm packages are not there.
        subprocess.CalledProcessError: esbuild found an error in the sources.
    """
    modules = npm.resolve() / "node_modules"
    for needed in ("esbuild/bin/esbuild", WASM):
        if not (modules / needed).exists():
            raise FileNotFoundError(f"{modules / needed}: run npm ci in {npm} first")
    static.mkdir(parents=True, exist_ok=True)
    bundle(modules, SOURCE / "widget.js", static / "widget.js", "--format=esm")
    bundle(modules, SOURCE / "style.css", static / "widget.css")
    packed = gzip.compress((modules / WASM).read_bytes(), 9, mtime=0)
    (static / "runtime.bin").write_bytes(packed)
    text = base64.b64encode(packed).decode("ascii")
    (static / "runtime.js").write_text(f'globalThis.minilibExploreRuntime="{text}";\n')
    return [static / name for name in ("widget.js", "widget.css", *RUNTIME_FILES)]


def bundle(modules: Path, source: Path, target: Path, *options: str) -> None:
    """One source file and what it imports, minified, into ``target``."""
    command = [
        _esbuild(modules),
        str(source),
        "--bundle",
        "--minify",
        "--charset=utf8",
        "--target=es2022",
        "--log-level=warning",
        "--legal-comments=eof",
        f"--outfile={target}",
        *options,
    ]
    subprocess.run(command, check=True, env={**os.environ, "NODE_PATH": str(modules)})


def _esbuild(modules: Path) -> str:
    """The native program that npm installed beside esbuild's own package."""
    for found in sorted((modules / "@esbuild").glob("*/bin/esbuild")):
        return str(found)
    return str(modules / "esbuild/bin/esbuild")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--npm-dir", type=Path, default=BUILD / "npm", help="holds node_modules")
    for path in build(parser.parse_args().npm_dir):
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
