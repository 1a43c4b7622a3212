#!/usr/bin/env bash
# Counts the instructions of what programs use most, under callgrind, and compares with benches/micro.txt:
#
#     bash ci/instructions.sh            # fails where a count has grown by more than 3 %
#     bash ci/instructions.sh --write    # writes the file anew
#
# The counts do not depend on the machine's speed or load, but they do on the compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo bench --bench micro -- "${1:---check}"
