"""Hands bytes to the target that reach as much of its code as possible: Atheris, on libFuzzer.

Arguments are libFuzzer's, such as ``-max_total_time=60``, and folders of inputs, the first of which is added to.
"""

import sys

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["export_pipeline"]):
    from export_pipeline_tests.fuzz.target import check_one

if __name__ == "__main__":
    atheris.Setup(sys.argv, check_one)
    atheris.Fuzz()
