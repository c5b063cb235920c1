#!/usr/bin/env bash
# Builds, tests, checks and measures on a machine with an NVIDIA GPU, in one call of at most nine minutes.
#
#     bash benchmarks/run_on_gpu.sh                      # everything
#     bash benchmarks/run_on_gpu.sh build check solve    # some stages: build tests check memcheck racecheck solve factorize
#                                                        # batch million renderers
#     bash benchmarks/run_on_gpu.sh teaser               # the paper's first figure at its own scale; not part of everything
#     SECONDS_IN_ALL=1200 OUT=somewhere bash benchmarks/run_on_gpu.sh
#
# Needs torch for CUDA, PyTorch3D and nvcc; nothing is fetched from a network. Packages may lie in a folder on PYTHONPATH, or
# come with .gpu/unpack.sh of this checkout, which is sourced where it is there. Every stage has a limit of time of its own,
# and one that fails does not keep the next from running; the exit status is 1 if any has failed, 2 without a GPU.
#
# Into ${OUT:-out/gpu}, few files because some places bring back few: summary.md, build.log, tests.log (tests and check),
# sanitizer.log, benchmarks.log, and results.tar.gz with the tables that the benchmarks write into benchmarks/results.
# shellcheck disable=SC2329  # the stages are called by their names
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

out=${OUT:-out/gpu}
deadline=$((SECONDS + ${SECONDS_IN_ALL:-530}))
export PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1
all_stages=(build tests check memcheck racecheck solve factorize batch million renderers)
stages=("$@")
((${#stages[@]})) || stages=("${all_stages[@]}")
all_stages+=(teaser)
for stage in "${stages[@]}"; do
  if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
    echo "no stage is called $stage: there are ${all_stages[*]}" >&2
    exit 1
  fi
done
mkdir -p "$out" || exit 1
rm -f "$out"/{build,tests,sanitizer,benchmarks}.log "$out"/{summary.md,results.tar.gz}

if [[ -f .gpu/unpack.sh ]]; then
  # shellcheck source=/dev/null
  . .gpu/unpack.sh
fi

# A machine without a GPU is no failure of the code.
if ! "$PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
  echo "an NVIDIA GPU is needed, and a torch of $PYTHON that sees it" | tee "$out/summary.md" >&2
  exit 2
fi

# build: the extension with its CUDA kernels, into this checkout.
build_stage() {
  PT3D_LARGESTEPS_REQUIRE_EXTENSION=1 FORCE_CUDA=1 "$PYTHON" -m pip install -v --no-build-isolation --no-deps -e .
}

# tests: those marked gpu. Files that cannot be imported for want of a package are named and left out; any other error of
# importing is a failure.
tests_stage() {
  local options=(-m "gpu and not slow" -p no:cacheprovider) missing ignored=() file package
  if "$PYTHON" -c 'import pytest_timeout' 2>/dev/null; then
    options+=(--timeout=60)
  else
    echo "pytest-timeout is not installed: only the stage as a whole has a limit"
  fi
  missing=$("$PYTHON" -m pytest "${options[@]}" --collect-only -q --continue-on-collection-errors 2>&1 |
    awk '/^_+ ERROR collecting /{file=$4} /^E +ModuleNotFoundError: No module named/{print file, $NF}')
  while read -r file package; do
    [[ -n $file && $package != *pt3d_largesteps* ]] || continue  # ours not being there is a failure
    echo "left out: $file, which needs the package $package"
    ignored+=("--ignore=$file")
  done <<<"$missing"
  "$PYTHON" -m pytest "${options[@]}" "${ignored[@]}" -q -rs --continue-on-collection-errors --durations=5
  local status=$?
  ((status != 5)) || echo "no test is marked gpu, or none of those could be imported"
  return "$status"
}

# check: the results on small cases, CUDA graphs among them.
check_stage() {
  "$PYTHON" benchmarks/gpu_check.py
}

# memcheck, racecheck: the same without graphs, under compute-sanitizer. torch's cache of memory is off, so that each tensor is
# an allocation and what lies beyond it is no other tensor; racecheck looks at shared memory alone.
sanitizer() {
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$(sanitizer_path)" --tool "$1" --error-exitcode 9 --report-api-errors no \
    --print-limit 20 "$PYTHON" benchmarks/gpu_check.py --eager
}
sanitizer_path() {
  command -v compute-sanitizer || find /usr/local/cuda*/bin -name compute-sanitizer 2>/dev/null | head -n 1
}
memcheck_stage() { sanitizer memcheck; }
racecheck_stage() { sanitizer racecheck; }

spheres="sphere3 sphere4 sphere5 sphere6 sphere7"
# shellcheck disable=SC2086  # several words are meant
solve_stage() { "$PYTHON" benchmarks/bm_solve.py --device cuda --seconds 0.15 --meshes $spheres; }
# shellcheck disable=SC2086
factorize_stage() { "$PYTHON" benchmarks/bm_factorize.py --device cuda --seconds 0.3 --meshes $spheres; }
batch_stage() { "$PYTHON" benchmarks/bm_batch.py --device cuda --seconds 0.5; }
million_stage() { "$PYTHON" benchmarks/bm_factorize.py --device cuda --million; }
renderers_stage() {
  if ! "$PYTHON" -c 'import nvdiffrast.torch'; then
    echo "left out: nvdiffrast is not on this machine"
    return 0
  fi
  "$PYTHON" benchmarks/bm_renderers.py --levels 3 4 5 --seconds 0.3
}
# The paper's first figure at its own scale, by nvdiffrast where it is there.
teaser_stage() {
  local renderer=pytorch3d
  ! "$PYTHON" -c 'import nvdiffrast.torch' || renderer=nvdiffrast
  "$PYTHON" experiments/figures/teaser.py --scale paper --device cuda --renderer "$renderer" --out "$out/figures"
}

declare -A limits=(
  [build]=200 [tests]=120 [check]=40 [memcheck]=70 [racecheck]=70 [solve]=120 [factorize]=60 [batch]=40 [million]=60 [renderers]=60
  [teaser]=400
)
declare -A logs=(
  [build]=build [tests]=tests [check]=tests [memcheck]=sanitizer [racecheck]=sanitizer
  [solve]=benchmarks [factorize]=benchmarks [batch]=benchmarks [million]=benchmarks [renderers]=benchmarks
  [teaser]=benchmarks
)

rows=() failed=()
run_stage() {
  local name=$1 log start=$SECONDS limit status state lines_before=0
  log=$out/${logs[$name]}.log
  [[ ! -f $log ]] || lines_before=$(wc -l <"$log")
  limit=$((deadline - SECONDS < limits[$name] ? deadline - SECONDS : limits[$name]))
  if [[ $name == *check && $name != check && -z $(sanitizer_path) ]]; then
    state="left out: compute-sanitizer is not on this machine"
  elif ((limit < 5)); then
    state="FAILED: no time was left"
  else
    printf '== %s, at most %d s\n' "$name" "$limit" >>"$log"
    timeout --kill-after=10 "$limit" bash -c "${name}_stage" >>"$log" 2>&1
    status=$?
    case $status in
      0) state=passed ;;
      124 | 137) state="FAILED: over its limit of $limit s" ;;
      *) state="FAILED: exit status $status" ;;
    esac
  fi
  rows+=("| $name | $state | $((SECONDS - start)) | ${logs[$name]}.log |")
  [[ $state != FAILED* ]] || failed+=("$name")
  printf '%-10s %s, %d s\n' "$name" "$state" $((SECONDS - start))
  if [[ -f $log && ($state == FAILED* || $name != build) ]]; then  # the end of what it has written
    tail -n "+$((lines_before + 2))" "$log" | tail -n 20 | cut -c 1-240 | sed 's/^/    /'
  fi
  write_summary
}

# After each stage: a call that is cut off keeps what it has.
write_summary() {
  {
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
    "$PYTHON" -V
    echo "commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    printf '\n| stage | result | seconds | log |\n|---|---|---|---|\n'
    printf '%s\n' "${rows[@]}"
    printf '\n%s\n' "$((${#failed[@]})) of ${#rows[@]} stages failed${failed[*]:+: ${failed[*]}}"
  } >"$out/summary.md"
  local results
  results=$(find benchmarks/results -name '*_cuda.*' -newer "$started")
  # shellcheck disable=SC2086
  [[ -z $results ]] || tar -czf "$out/results.tar.gz" $results
}

export out spheres
export -f build_stage tests_stage check_stage sanitizer sanitizer_path memcheck_stage racecheck_stage
export -f solve_stage factorize_stage batch_stage million_stage renderers_stage teaser_stage
started=$(mktemp) # what is newer than this file was written by this call
for stage in "${stages[@]}"; do
  run_stage "$stage"
done
rm -f "$started"
echo
cat "$out/summary.md"
exit $((${#failed[@]} > 0))
