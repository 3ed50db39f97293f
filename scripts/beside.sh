# shellcheck shell=bash
#
# Commands that run beside the steps of a script, and are all told to end when it ends;
# sourced under `set -euo pipefail`. It takes the script's trap on EXIT.

beside_output=$(mktemp -d)
declare -A beside_pid

# beside NAME COMMAND...: run it until `joined NAME`, in a process group of its own, as
# what it starts is to end with it; but not in a session of its own, among whose processes
# alone `nice` would count (sched(7), autogroups).
beside() {
    local name=$1
    shift
    set -m
    "$@" </dev/null >"$beside_output/$name" 2>&1 &
    set +m
    beside_pid[$name]=$!
}

# Wait for it, print what it printed, and return its status.
joined() {
    local name=$1 status=0
    wait "${beside_pid[$name]}" || status=$?
    unset "beside_pid[$name]"
    cat "$beside_output/$name"
    return $status
}

# What fails in a trap on EXIT becomes the script's status, whatever that was: with no
# process, or with one that has just ended, kill fails.
end_beside() {
    local pid
    for pid in "${beside_pid[@]}"; do
        # Both, as it may not have its group yet.
        kill -- "-$pid" "$pid" 2>/dev/null || true
    done
    rm -rf "$beside_output" || true
}
trap end_beside EXIT
