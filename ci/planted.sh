#!/usr/bin/env bash
# Plants bugs, one at a time, and shows that the tests notice each of them:
#
#     bash ci/planted.sh                     # every plant of ci/plants
#     bash ci/planted.sh handlers_fifo ..    # these
#
# A test that nobody has seen fail proves nothing. So for each promise that matters there is a plant: a
# patch that breaks it, as small as the slip would be that somebody makes one day. The lines before the
# patch say what it is and which tests have to fail under it:
#
#     plants: handlers run oldest first
#     notices: TARGET TEST [hangs]
#
# TARGET is a file of tests/ without its ending, `lib` for the unit tests, or `loom` for the models; TEST
# is the name of the function alone. Every test that is named fails under the plant: by an assertion, or
# because the process dies. Where the promise that is broken is that something ends, the test does not
# end either, and `hangs` says so. A hang that is not announced does not count, for it may be nothing but
# a busy machine; neither does a plant that no longer applies, or that does not compile.
#
# All of it happens in a copy of the tree as it is, changes that are not committed included. The copy and
# what is built from it lie in target/planted, always at the same place, so that a plant costs the crate
# and a test or two to compile. At the start all tests that are named run without any plant, and must
# pass. Ends with 1 if anything went unnoticed, after all plants have been tried.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

repository=$PWD
home=$(realpath -m "${CARGO_TARGET_DIR:-target}/planted")
tree=$home/tree
log=$home/log

# A target directory beside the copy, and what makes building fast. Symbols are enough for backtraces.
export CARGO_TARGET_DIR=$home/build
export CARGO_TERM_COLOR=never CARGO_TERM_QUIET=false
export CARGO_PROFILE_DEV_DEBUG=false CARGO_PROFILE_TEST_DEBUG=false
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_INCREMENTAL=true CARGO_PROFILE_RELEASE_DEBUG=false
# A plant may make things unused, and that it is a plant is known.
export CARGO_ENCODED_RUSTFLAGS='-Awarnings'

die() {
    echo "planted.sh: $1" >&2
    exit 2
}

# Both keys of a plant's head, one line each; anything else before the patch that looks like a key is a
# slip of the pen that would switch a check off.
described() { sed -n '/^--- /q; s/^plants: //p' "$1"; }
noticing() { sed -n '/^--- /q; s/^notices: //p' "$1"; }

check_head() {
    local patch=$1
    (($(described "$patch" | wc -l) == 1)) || die "$patch: has to have one line 'plants: ..'"
    (($(noticing "$patch" | wc -l) > 0)) || die "$patch: has no line 'notices: TARGET TEST'"
    local odd
    odd=$(sed -n '/^--- /q; /^diff /b; /^index /b; /^\(plants\|notices\): ./b; /./p' "$patch")
    [[ -z $odd ]] || die "$patch: not understood: $odd"
    odd=$(noticing "$patch" | grep -vE '^[a-z_]+ [a-z0-9_]+( hangs)?$' || true)
    [[ -z $odd ]] || die "$patch: not TARGET TEST [hangs]: $odd"
}

copy_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"
    # With times of their own: cargo must not take a file for older than what was last built with a plant.
    git -C "$repository" ls-files -z --cached --others --exclude-standard |
        (cd "$repository" && xargs -0 -r sh -c 'for f; do [ -f "$f" ] && printf "%s\0" "$f"; done; :' sh) |
        tar -C "$repository" --null -T - -c | tar -C "$tree" -x -m
}

# As if the copy were in no repository: else git looks for the files at the root of ours. One line on
# each side of a change has to be as it was, so that what is edited further off does no harm.
apply() {
    (cd "$tree" && GIT_CEILING_DIRECTORIES=$home git apply -C1 "$@") 2>"$log"
}

# Builds a target, and puts the path of its executable into `executable`.
build() {
    local target=$1
    local flags=$CARGO_ENCODED_RUSTFLAGS
    local options=(--test "$target")
    case $target in
        lib) options=(--lib) ;;
        loom)
            flags+=$'\x1f--cfg\x1fcoro_loom'
            options=(--lib --release --target-dir "$CARGO_TARGET_DIR/loom")
            ;;
    esac
    (cd "$tree" && CARGO_ENCODED_RUSTFLAGS=$flags cargo test --no-run "${options[@]}") >"$log" 2>&1 ||
        return 1
    executable=$(sed -nE 's/^ *Executable .*\((.*)\)$/\1/p' "$log")
    [[ -x $executable ]]
}

# Runs one test of `executable` for at most so many seconds. Puts into `status` what the process gave,
# and 124 if it did not end.
run() {
    local limit=$1 path=$2
    status=0
    # Core files of what crashes on purpose help nobody, nor does what a shell says of a crash. It is the
    # inner shell that says it, for it has something left to do.
    (
        cd "$tree"
        ulimit -c 0
        timeout --kill-after=5 "$limit" "$executable" --exact "$path" </dev/null >"$log" 2>&1 || exit
    ) 2>/dev/null || status=$?
    # What `timeout` gives where it has run nothing.
    ((status < 125 || status > 127)) || die "$executable cannot be run"
    # It was killed, since it did not end when it was asked to; or the test's own watchdog was quicker.
    if ((status == 137)) || grep -q '^watchdog: ' "$log"; then
        status=124
    fi
}

# What a test that has failed said: of the first panic, the place and the first line of its message, for
# what fails on the way out comes later; without a panic, the first line that is not the harness's.
what_it_said() {
    awk '
        /panicked at/ {
            place = $0
            sub(/.*panicked at /, "", place)
            # Of the standard library or of a crate: from its name on.
            sub(/^\/.*\/(library|index\.crates\.io-[^\/]*)\//, "", place)
            getline
            panic = place " " $0
            exit
        }
        said == "" && !/^$|^running [0-9]+ test|^test |^note: |^failures:|^    / { said = $0 }
        END { print panic != "" ? panic : said != "" ? said : "(without a word)" }
    ' "$log" | cut -c -120
}

# How the test that was run last has ended, in words.
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

mkdir -p "$home"
exec {lock}>"$home/lock"
flock --nonblock "$lock" || die "another one runs in $home"

patches=()
if (($# == 0)); then
    patches=(ci/plants/*.patch)
else
    for name in "$@"; do
        patches+=("ci/plants/$name.patch")
    done
fi
for patch in "${patches[@]}"; do
    [[ -f $patch ]] || die "there is no $patch"
    check_head "$patch"
done

copy_tree
trap 'rm -rf "$tree"' EXIT

# Without any plant: each test is there, passes, and says how long that takes.
declare -A path_of=() limit_of=()
target_before=
while read -r target test; do
    if [[ $target != "$target_before" ]]; then
        printf '=== no plant: %s\n' "$target" >&2
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
    # Far more than it takes, so that what has not ended by then does not.
    limit_of[$target $test]=$((20 + 10 * seconds))
done < <(for patch in "${patches[@]}"; do noticing "$patch"; done | sed 's/ hangs$//' | sort -u)

rows=()
unnoticed=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    printf '\n=== %s: %s\n' "$name" "$(described "$patch")" >&2
    if ! apply "$repository/$patch"; then
        rows+=("$name|-|DOES NOT APPLY: $(head -n 1 "$log")")
        unnoticed=1
        continue
    fi
    while read -r target test hangs; do
        if ! build "$target"; then
            how="DOES NOT COMPILE: $(grep -m 1 -E '^error' "$log" || true)"
            unnoticed=1
        else
            run "${limit_of[$target $test]}" "${path_of[$target $test]}"
            how=$(how_it_ended)
            if ((status == 0)); then
                how='NOT NOTICED'
                unnoticed=1
            elif ((status == 124)) && [[ $hangs != hangs ]]; then
                how='HUNG, and it is not said to'
                unnoticed=1
            fi
        fi
        printf '    %s %s: %s\n' "$target" "$test" "$how" >&2
        rows+=("$name|$target $test|$how")
    done < <(noticing "$patch")
    apply -R "$repository/$patch" || die "$patch cannot be taken back: $(head -n 1 "$log")"
done

printf '\n%-28s %-75s %s\n' plant 'noticed by' how
for row in "${rows[@]}"; do
    IFS='|' read -r name by how <<<"$row"
    printf '%-28s %-75s %s\n' "$name" "$by" "$how"
done
if ((unnoticed > 0)); then
    echo '=== planted.sh: not every plant was noticed' >&2
    exit 1
fi
printf '=== planted.sh: %d plants, each of them noticed\n' "${#patches[@]}" >&2
