#!/usr/bin/env bash
# Every test that SAFETY.md names exists, every fuzz target too; every invariant that a SAFETY comment or
# a module's head states is in its table, and so is every bug that ci/planted.sh plants.
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
for stated in $(grep -rhoE '^//! - \*\*[A-Z][0-9]+' src | grep -oE '[A-Z][0-9]+' | sort -u); do
    grep -qx "$stated" <<<"$invariants" || complain "invariant $stated is not in the table"
done
for cited in $(grep -rhoE '// SAFETY: [A-Z][0-9]+(, [A-Z][0-9]+)*' src | grep -oE '\b[A-Z][0-9]+' | grep -v '^M' | sort -u); do
    grep -qx "$cited" <<<"$invariants" || complain "a SAFETY comment cites $cited, which is not in the table"
done
for patch in ci/plants/*.patch; do
    name=$(basename "$patch" .patch)
    grep -qF "| \`$name\` |" SAFETY.md || complain "the plant $name is not in the table"
    for test in $(sed -n '/^--- /q; s/^notices: [a-z_]* \([a-z0-9_]*\).*/\1/p' "$patch"); do
        grep -rqE "fn $test\b" src tests || complain "the plant $name names $test, which is not there"
    done
done
exit "$failed"
