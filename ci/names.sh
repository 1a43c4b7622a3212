#!/usr/bin/env bash
# Checks SAFETY.md against the code:
#
# - every test and every fuzz target that it names exists, and every test that a mutant names;
# - each invariant is listed once, and is stated once, at the head of a module;
# - every invariant that a SAFETY comment cites is listed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
complain() {
    echo "SAFETY.md: $1" >&2
    failed=1
}

# Rows of tables: | **S1** | what | `test` | `target` |
invariants=$(grep -oE '^\| \*\*[A-Z][0-9]+\*\*' SAFETY.md | grep -oE '[A-Z][0-9]+')
# What stands in the column of tests: the one before the last in the table of invariants, else the last.
tests=$(
    grep -E '^\| \*\*' SAFETY.md | awk -F'|' '{ print $4 }'
    sed -n '/^## Documented/,$p' SAFETY.md | grep -E '^\| ' | awk -F'|' '{ print $4 }'
)
for test in $(grep -oE '`[a-z0-9_]+`' <<<"$tests" | tr -d '`' | sort -u); do
    [[ $test == check_shadow_stack ]] && continue
    grep -rqE "fn $test\b" src tests || complain "there is no test $test"
done
for target in $(grep -E '^\| \*\*' SAFETY.md | grep -oE '\| `[a-z_]+` \|$' | tr -d '`| ' | sort -u); do
    [[ -f fuzz/fuzz_targets/$target.rs ]] || complain "there is no fuzz target $target"
done
stated=$(grep -rhoE '^ *//[!/] - \*\*[A-Z][0-9]+' src | grep -oE '[A-Z][0-9]+')
for twice in $(sort <<<"$invariants" | uniq -d); do
    complain "invariant $twice is listed twice"
done
for twice in $(sort <<<"$stated" | uniq -d); do
    complain "invariant $twice is stated in two places of src"
done
for one in $stated; do
    grep -qx "$one" <<<"$invariants" || complain "invariant $one is not in the table"
done
for one in $invariants; do
    grep -qx "$one" <<<"$stated" || complain "invariant $one is stated nowhere in src"
done
for cited in $(grep -rhoE '// SAFETY: [A-Z][0-9]+(, [A-Z][0-9]+)*' src | grep -oE '\b[A-Z][0-9]+' | sort -u); do
    grep -qx "$cited" <<<"$invariants" || complain "a SAFETY comment cites $cited, which is not in the table"
done
for patch in ci/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    for test in $(sed -n '/^--- /q; s/^caught-by: [a-z_]* \([a-z0-9_]*\).*/\1/p' "$patch"); do
        grep -rqE "fn $test\b" src tests || complain "the mutant $name names $test, which is not there"
    done
done
exit "$failed"
