#!/usr/bin/env bash
# Builds a copy of the tree with AddressSanitizer and UBSan and runs the tests that reach into C with it.
# The report is written to build/sanitize/report.*; any finding fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
data=${MDFEED_DATA:-$PWD/../shared/data}
copy=build/sanitize
mkdir -p "$copy"
tar -c --exclude='*.so' --exclude=__pycache__ setup.py pyproject.toml config.yaml README.md mdfeed tests | tar -x -C "$copy"
cd "$copy"
rm -f report.*
MDFEED_SANITIZE=1 "$python" setup.py -q build_clib build_ext --inplace
asan=$(gcc -print-file-name=libasan.so)
cxx=$(gcc -print-file-name=libstdc++.so)    # before the first C++ module, or the sanitizer cannot pass on a throw
# pytest's capture would hide a report, hence log_path; a missing preload would pass silently, hence the check.
export LD_PRELOAD="$asan:$cxx" PYTHONMALLOC=malloc MDFEED_DATA="$data"
export ASAN_OPTIONS="detect_leaks=0:log_path=$PWD/report" UBSAN_OPTIONS="print_stacktrace=1:log_path=$PWD/report"
export PYTHONPATH=$PWD MDFEED_FUZZ_ROUNDS=${MDFEED_FUZZ_ROUNDS:-60000}
"$python" - <<'PY'
import mdfeed._parse
maps = open("/proc/self/maps").read()
assert "libasan" in maps and "build/sanitize/mdfeed/_parse" in maps, "the sanitizer is not loaded"
PY
if [ $# -eq 0 ]; then
    # Everything whose C is entered in process; what starts daemons or servers of its own is left out.
    set -- tests/fuzz tests/property tests/venues tests/unit/test_{parse,book,feed,feed_figures,feed_snapshots}.py \
        tests/unit/test_{feed_edges,feed_trades,fuse,proof,track,slots,tape,window,stats,recall,valve,encode,resp,text}.py \
        tests/unit/test_{sinks_memory,replay,stream}.py tests/faults/test_matrix.py
fi
"$python" -m pytest -q -s -p no:cacheprovider --timeout 900 "$@"
if compgen -G 'report.*' >/dev/null; then
    cat report.* >&2
    exit 1
fi
echo "no finding"
