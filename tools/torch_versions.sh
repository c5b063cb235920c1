#!/usr/bin/env bash
# Does one wheel with compiled code run on several versions of torch? Makes an environment for each, one after the other,
# installs torch and the wheel there, without PyTorch3D, and solves: through the compiled operators with torch 2.11 or newer, in
# plain torch with an older one.
#
#   bash tools/torch_versions.sh dist/pt3d_largesteps-*-cp310-abi3-*.whl 2.6 2.11 2.12 2.13
#
# Each environment takes about 6 GB while it is there, since the wheels of torch bring CUDA along; TORCH_INDEX=URL takes them from
# another index, such as that of wheels for the CPU. PYTHON=python3.12 takes another Python.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 WHEEL VERSION..." >&2
  exit 2
fi
wheel=$(realpath "$1")
shift
check=$(realpath "$(dirname "$0")/check_wheel.py")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" # not the checkout: its folder would be imported instead of the wheel
failed=()
for version in "$@"; do
  "${PYTHON:-python3}" -m venv env
  env/bin/python -m pip install --quiet --disable-pip-version-check ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$version.*"
  env/bin/python -m pip install --quiet --disable-pip-version-check numpy scipy
  env/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$wheel"
  cp "$check" check_wheel.py
  env/bin/python check_wheel.py || failed+=("$version")
  rm -rf env
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed with torch ${failed[*]}" >&2
  exit 1
fi
