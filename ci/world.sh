#!/usr/bin/env bash
# The programs of examples/world, a package of its own: its format, its lints, and its tests beside real clients and
# servers, which are installed if they are missing.
#
#     bash ci/world.sh             # all tests
#     bash ci/world.sh redis       # those whose name contains this
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/tools.sh

missing=()
command -v curl >/dev/null || missing+=(curl)
command -v h2load >/dev/null || missing+=(nghttp2-client)
command -v redis-server >/dev/null || missing+=(redis-server)
# It is in no path.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
# Debian's Python, for that is the one with Debian's packages.
/usr/bin/python3 -c 'import websockets' 2>/dev/null || missing+=(python3 python3-websockets)
install_packages "${missing[@]}"

export CARGO_TARGET_DIR
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target/world}")
cd examples/world
cargo fmt --check
cargo clippy --release --all-targets -- -D warnings
cargo test --release --test world -- "$@"
