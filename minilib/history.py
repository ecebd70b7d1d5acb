"""The losses of a training, step by step: on disk as they come, in memory by column."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


class History:
    """Loss terms, one JSON line per step (and in TensorBoard), readable while training runs."""

    def __init__(
        self, path: Path, keep: int, tensorboard: bool = False, write: bool = True
    ) -> None:
        """Open ``path``, keep its entries of steps below ``keep``; hold new ones, or write them."""
        self.board, self.file = None, None
        if tensorboard and write:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, seldom needed

            self.board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=keep)
        self.rows: list[dict[str, float]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep and path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    break  # the line that was being written when the run was killed
                if row["step"] < keep:
                    self.rows.append(row)
        if write:
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            os.replace(temporary, path)
            self.file = open(path, "a", buffering=1)  # noqa: SIM115 (closed by close)

    def add(self, step: int, terms: Mapping[str, float]) -> None:
        """Append one step."""
        row = {"step": step, **terms}
        self.rows.append(row)
        if self.file is not None:
            self.file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in terms.items():
                self.board.add_scalar(name, value, step)

    def columns(self) -> dict[str, list[float]]:
        """``{name: values}``, with ``step`` among the names."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name, math.nan) for row in self.rows] for name in names}

    def close(self) -> None:
        """Flush and close the files."""
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()
