"""Build engines of ONNX files and print what came out: time, size, memory, and what runs in INT8.

    python benchmarks/engines.py --target sm86,sm89 --batch 1:8:16 a.fp32.onnx a.int8.onnx ...

Each build runs in a process of its own, as in `tledge build-engine`. "seconds" is the build alone, "peak_mib"
the most memory that the process had, "int8" how many of the nodes that the graph quantises run in INT8.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tledge.engine.process import build_apart
from tledge.engine.settings import BuildSettings, parse_batch, parse_targets
from tledge.errors import TledgeError
from tledge.progress import Progress


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--backend", default="tensorrt-rtx")
    parser.add_argument("--target", default="")
    parser.add_argument("--batch", default="1:8:16")
    arguments = parser.parse_args()
    settings = BuildSettings(
        arguments.backend, parse_batch(arguments.batch), targets=parse_targets(arguments.target)
    )
    for file in arguments.files:
        row: dict[str, object] = {"file": file.name}
        try:
            outcome = build_apart(file, settings, progress=Progress.silent(), title=file.name)
        except TledgeError as error:
            row["error"] = error.message
        else:
            report = outcome.built.report
            row |= {
                "seconds": round(outcome.built.seconds, 2),
                "engine_mib": round(len(outcome.built.plan) / 2**20, 1),
                "peak_mib": outcome.peak_mib,
                "layers": len(report.layers),
                "int8": f"{len(report.wanted_int8) - len(report.not_int8)} of {len(report.wanted_int8)}",
                "activations_mib": round((report.activation_bytes or 0) / 2**20, 1),
            }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
