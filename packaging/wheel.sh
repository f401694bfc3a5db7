#!/usr/bin/env bash
# A wheel that carries the program, so that `pip install` puts it on the PATH: target/dist-packages/microtally-….whl
# Needs maturin, and installs it with pip into target/ci-tools if it is missing.
source "$(dirname "$0")/common.sh"

if ! command -v maturin >/dev/null; then
  python3 -m venv target/ci-tools/maturin
  target/ci-tools/maturin/bin/pip install -q 'maturin>=1.9,<2'
  PATH="$PWD/target/ci-tools/maturin/bin:$PATH"
fi
(cd packaging && maturin build --locked --profile dist --out "../$out")
