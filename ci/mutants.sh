#!/usr/bin/env bash
# Applies bugs to the code, one at a time, and checks that the tests catch each of them:
#
#     bash ci/mutants.sh                     # every mutant of ci/mutants
#     bash ci/mutants.sh handlers_fifo ..    # these
#     bash ci/mutants.sh --some 5            # as many, others every day
#     bash ci/mutants.sh --list              # what each mutant breaks
#     bash ci/mutants.sh --compile           # whether each applies and compiles, without its tests
#
# A test that nobody has seen fail proves nothing. So each promise that matters has a mutant: a patch that
# breaks the promise by a small slip. The lines before the patch describe the mutant and name the tests
# that must fail under it:
#
#     mutant: handlers run oldest first
#     caught-by: TARGET TEST [hangs]
#
# TARGET is a file of tests/ without its ending, `lib` for the unit tests, or `loom` for the models. TEST
# is the name of the function alone. Every named test must fail under the mutant: an assertion fails, or
# the process dies. If the broken promise is that something ends, the test hangs, and the head says
# `hangs`. A hang that the head does not announce is an error, because a busy machine can cause one. A
# mutant that does not apply or does not compile is an error too.
#
# The script works in a copy of the tree. The copy includes changes that are not committed. It lies in
# target/mutants, with what is built from it. The place never changes, so a mutant costs the compilation of
# the crate and of a test or two. First, all named tests run without a mutant, and must pass. The script
# tries every mutant, and exits with 1 if a test missed one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

repository=$PWD
home=$(realpath -m "${CARGO_TARGET_DIR:-target}/mutants")
tree=$home/tree
log=$home/log

# A target directory beside the copy, and settings that make building fast. Backtraces need symbols only.
export CARGO_TARGET_DIR=$home/build
export CARGO_TERM_COLOR=never CARGO_TERM_QUIET=false
export CARGO_PROFILE_DEV_DEBUG=false CARGO_PROFILE_TEST_DEBUG=false
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_INCREMENTAL=true CARGO_PROFILE_RELEASE_DEBUG=false
# A mutant may make things unused.
export CARGO_ENCODED_RUSTFLAGS='-Awarnings'

die() {
    echo "mutants.sh: $1" >&2
    exit 2
}

# The two keys of a mutant's head. Any other line before the patch is an error, because a misspelt key would
# switch a check off.
described() { sed -n '/^--- /q; s/^mutant: //p' "$1"; }
catchers() { sed -n '/^--- /q; s/^caught-by: //p' "$1"; }

check_head() {
    local patch=$1
    (($(described "$patch" | wc -l) == 1)) || die "$patch: has to have one line 'mutant: ..'"
    (($(catchers "$patch" | wc -l) > 0)) || die "$patch: has no line 'caught-by: TARGET TEST'"
    local odd
    odd=$(sed -n '/^--- /q; /^diff /b; /^index /b; /^\(mutant\|caught-by\): ./b; /./p' "$patch")
    [[ -z $odd ]] || die "$patch: not understood: $odd"
    odd=$(catchers "$patch" | grep -vE '^[a-z_]+ [a-z0-9_]+( hangs)?$' || true)
    [[ -z $odd ]] || die "$patch: not TARGET TEST [hangs]: $odd"
}

copy_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"
    # With fresh times (-m): cargo must not take a file for older than the last build of a mutant.
    git -C "$repository" ls-files -z --cached --others --exclude-standard |
        (cd "$repository" && xargs -0 -r sh -c 'for f; do [ -f "$f" ] && printf "%s\0" "$f"; done; :' sh) |
        tar -C "$repository" --null -T - -c | tar -C "$tree" -x -m
}

# The ceiling hides our repository from git, which would look for the files at its root. Only one line on
# each side of a change has to match, so that edits further off do no harm.
apply() {
    (cd "$tree" && GIT_CEILING_DIRECTORIES=$home git apply -C1 "$@") 2>"$log"
}

# Builds a target. Puts the path of its executable into `executable`.
build() {
    local target=$1
    local flags=$CARGO_ENCODED_RUSTFLAGS
    local options=(--test "$target") debug=false
    case $target in
        lib) options=(--lib) ;;
        check_nesting) # needs line tables
            options+=(--features check)
            debug=line-tables-only
            ;;
        trace) options+=(--features tracing) ;;
        loom)
            flags+=$'\x1f--cfg\x1fcoro_loom'
            options=(--lib --release --target-dir "$CARGO_TARGET_DIR/loom")
            ;;
    esac
    (cd "$tree" && CARGO_ENCODED_RUSTFLAGS=$flags CARGO_PROFILE_DEV_DEBUG=$debug CARGO_PROFILE_TEST_DEBUG=$debug \
        cargo test --no-run "${options[@]}") >"$log" 2>&1 ||
        return 1
    executable=$(sed -nE 's/^ *Executable .*\((.*)\)$/\1/p' "$log")
    [[ -x $executable ]]
}

# Runs one test of `executable` for at most so many seconds. Puts the exit status into `status`, or 124 if
# the test did not end.
run() {
    local limit=$1 path=$2
    status=0
    # A crash is expected here, so core files and the shell's words about a crash are noise. `|| exit` makes
    # the inner shell say those words, whose stderr is closed.
    (
        cd "$tree"
        ulimit -c 0
        timeout --kill-after=5 "$limit" "$executable" --exact "$path" </dev/null >"$log" 2>&1 || exit
    ) 2>/dev/null || status=$?
    # `timeout` gives these if it could not run the program.
    ((status < 125 || status > 127)) || die "$executable cannot be run"
    # `timeout` had to kill the test, or the test's own watchdog was quicker.
    if ((status == 137)) || grep -q '^watchdog: ' "$log"; then
        status=124
    fi
}

# What a failed test said: the place of the first panic and the first line of its message. Later panics come
# from the way out. If there is no panic, it is the first line that is not the harness's.
what_it_said() {
    awk '
        /panicked at/ {
            place = $0
            sub(/.*panicked at /, "", place)
            # The path of the standard library or of a crate is cut, up to its name.
            sub(/^\/.*\/(library|index\.crates\.io-[^\/]*)\//, "", place)
            getline
            panic = place " " $0
            exit
        }
        said == "" && !/^$|^running [0-9]+ test|^test |^note: |^failures:|^    / { said = $0 }
        END { print panic != "" ? panic : said != "" ? said : "(without a word)" }
    ' "$log" | cut -c -120
}

# How the last test ended, in words.
how_it_ended() {
    case $status in
        124) echo "hung" ;;
        101) echo "failed: $(what_it_said)" ;;
        *)
            local what="ended with $status"
            ((status <= 128)) || what="crashed: SIG$(kill -l "$((status - 128))")"
            echo "$what $(what_it_said)"
            ;;
    esac
}

patches=()
if [[ ${1-} == --list ]]; then
    for patch in ci/mutants/*.patch; do
        printf '%-40s %s\n' "$(basename "$patch" .patch)" "$(described "$patch")"
    done
    exit
elif [[ ${1-} == --some ]]; then
    all=(ci/mutants/*.patch)
    first=$(($(date +%s) / 86400 * $2))
    for ((i = 0; i < $2; i++)); do
        patches+=("${all[(first + i) % ${#all[@]}]}")
    done
elif (($# == 0)) || [[ $1 == --compile ]]; then
    patches=(ci/mutants/*.patch)
else
    for name in "$@"; do
        patches+=("ci/mutants/$name.patch")
    done
fi
mkdir -p "$home"
exec {lock}>"$home/lock"
flock --nonblock "$lock" || die "another one runs in $home"

for patch in "${patches[@]}"; do
    [[ -f $patch ]] || die "there is no $patch"
    check_head "$patch"
done

copy_tree
trap 'rm -rf "$tree"' EXIT

# Whether the library compiles with each mutant. A change of the code that leaves a mutant behind shows here,
# whatever mutants are tried that day.
if [[ ${1-} == --compile ]]; then
    for patch in "${patches[@]}"; do
        apply "$repository/$patch" || die "$patch does not apply: $(head -n 1 "$log")"
        (cd "$tree" && cargo check --lib --features check,tracing) >"$log" 2>&1 ||
            die "$patch does not compile: $(grep -m 1 -E '^error' "$log" || true)"
        apply -R "$repository/$patch" || die "$patch cannot be taken back: $(head -n 1 "$log")"
    done
    printf '=== mutants.sh: %d mutants, each of them compiles\n' "${#patches[@]}" >&2
    exit
fi

# Without a mutant: each test must exist and pass. Its time sets its limit.
declare -A path_of=() limit_of=()
target_before=
while read -r target test; do
    if [[ $target != "$target_before" ]]; then
        printf '=== no mutant: %s\n' "$target" >&2
        build "$target" || die "$target does not compile: $(tail -n 20 "$log")"
        target_before=$target
        paths=$("$executable" --list --format terse 2>/dev/null | sed -n 's/: test$//p')
    fi
    path=$(grep -E "(^|::)$test\$" <<<"$paths" || true)
    [[ -n $path && $path != *$'\n'* ]] || die "$target has no test $test, or several"
    start=${EPOCHREALTIME/./}
    run 300 "$path"
    grep -q '^test result: ok. 1 passed' "$log" ||
        die "$target $test does not pass as it is: $(how_it_ended)"
    seconds=$(((${EPOCHREALTIME/./} - start) / 1000000))
    path_of[$target $test]=$path
    # Far more than the test takes. A test that runs longer hangs.
    limit_of[$target $test]=$((20 + 10 * seconds))
done < <(for patch in "${patches[@]}"; do catchers "$patch"; done | sed 's/ hangs$//' | sort -u)

rows=()
missed=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    printf '\n=== %s: %s\n' "$name" "$(described "$patch")" >&2
    if ! apply "$repository/$patch"; then
        rows+=("$name|-|DOES NOT APPLY: $(head -n 1 "$log")")
        missed=1
        continue
    fi
    while read -r target test hangs; do
        if ! build "$target"; then
            how="DOES NOT COMPILE: $(grep -m 1 -E '^error' "$log" || true)"
            missed=1
        else
            run "${limit_of[$target $test]}" "${path_of[$target $test]}"
            how=$(how_it_ended)
            if ((status == 0)); then
                how='NOT CAUGHT'
                missed=1
            elif ((status == 124)) && [[ $hangs != hangs ]]; then
                how='HUNG, which the head does not announce'
                missed=1
            fi
        fi
        printf '    %s %s: %s\n' "$target" "$test" "$how" >&2
        rows+=("$name|$target $test|$how")
    done < <(catchers "$patch")
    apply -R "$repository/$patch" || die "$patch cannot be taken back: $(head -n 1 "$log")"
done

printf '\n%-28s %-75s %s\n' mutant 'caught by' how
for row in "${rows[@]}"; do
    IFS='|' read -r name by how <<<"$row"
    printf '%-28s %-75s %s\n' "$name" "$by" "$how"
done
if ((missed > 0)); then
    echo '=== mutants.sh: not every mutant was caught' >&2
    exit 1
fi
printf '=== mutants.sh: %d mutants, each of them caught\n' "${#patches[@]}" >&2
