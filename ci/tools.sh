# Sourced by .ci/run: what the steps need of the machine, and how a step is announced.

# Runs a step under its name, and says how long it took. A step that fails ends the run, so `"$@"`
# stands by itself: as part of a condition it would run with `set -e` switched off.
step() {
    local start=$SECONDS
    printf '\n=== %s\n' "$*" >&2
    "$@" </dev/null
    printf '=== %s: %d s\n' "$*" "$((SECONDS - start))" >&2
}

# gdb and valgrind, without which the tests that need them skip themselves, and the tool by which the
# sanitizers name functions, without which fuzzing looks for no leaks.
install_tools() {
    local missing=()
    local tool
    for tool in gdb valgrind; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    command -v llvm-symbolizer >/dev/null || missing+=(llvm)
    if ((${#missing[@]} > 0)); then
        local as_root=()
        ((EUID == 0)) || as_root=(sudo)
        "${as_root[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
    fi
    cargo --version
    gdb --version | head -n 1
    valgrind --version
}
